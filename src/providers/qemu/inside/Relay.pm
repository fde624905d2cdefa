# Carries every connection on the machine's own guest socket over the channel, as a stream each.
package Relay;
use strict;
use Channel;

sub CREDIT_BYTES() { 262_144 }    # what each direction of a stream begins with
sub GRANT_BYTES() { 65_536 }    # credit is given back in portions of at least this
sub STREAMS_MAX() { 64 }    # more connections wait to be accepted

# Listens at `path`, as root and for everyone in the machine.
sub new {
    my ($class, $channel, $path) = @_;
    socket my $listener, 1, 1, 0 or die "no socket: $!\n";
    bind $listener, pack('S a108', 1, $path) or die "cannot bind $path: $!\n";
    chmod 0666, $path;
    listen $listener, 64 or die "cannot listen at $path: $!\n";
    Channel::set_nonblocking($listener);
    return bless { channel => $channel, listener => $listener, streams => {}, last => 0 }, $class;
}

sub open_count { return scalar keys %{ $_[0]{streams} } }

# True while the machine's end of a stream may still have something to say.
sub has_words {
    for my $stream (values %{ $_[0]{streams} }) { return 1 if !$stream->{has_sent_close} }
    return 0;
}

# Adds what to wait for to the bits for select.
sub wants {
    my ($self, $reads, $writes) = @_;
    my $is_crowded = $self->{channel}->is_crowded;
    vec($$reads, fileno $self->{listener}, 1) = 1 if !$is_crowded && $self->open_count < STREAMS_MAX;
    for my $stream (values %{ $self->{streams} }) {
        my $number = fileno $stream->{socket};
        vec($$reads, $number, 1) = 1 if !$is_crowded && !$stream->{has_sent_close} && $stream->{credit} > 0;
        vec($$writes, $number, 1) = 1 if length $stream->{out};
    }
    return;
}

# Moves what select found ready.
sub turn {
    my ($self, $reads, $writes) = @_;
    $self->accept_one if vec $reads, fileno $self->{listener}, 1;
    for my $id (keys %{ $self->{streams} }) {
        my $stream = $self->{streams}{$id} or next;
        my $number = fileno $stream->{socket};
        $self->from_socket($id, $stream) if vec $reads, $number, 1;
        $self->to_socket($id, $stream) if vec $writes, $number, 1;
    }
    return;
}

sub accept_one {
    my ($self) = @_;
    accept my $socket, $self->{listener} or return;
    Channel::set_nonblocking($socket);
    my $id = ++$self->{last};
    $self->{streams}{$id} = { socket => $socket, out => '', credit => CREDIT_BYTES, consumed => 0 };
    $self->{channel}->send_frame(Channel::OPEN, $id, '');
    return;
}

sub from_socket {
    my ($self, $id, $stream) = @_;
    return if $stream->{has_sent_close};
    my $most = $stream->{credit} < Channel::PAYLOAD_BYTES ? $stream->{credit} : Channel::PAYLOAD_BYTES;
    my $got = sysread $stream->{socket}, my $bytes, $most;
    return if !defined $got && $! == 11;
    return $self->no_more_from($id, $stream) if !$got;
    $stream->{credit} -= $got;
    $self->{channel}->send_frame(Channel::DATA, $id, $bytes);
    return;
}

sub to_socket {
    my ($self, $id, $stream) = @_;
    my $sent = syswrite $stream->{socket}, $stream->{out}, Channel::PAYLOAD_BYTES;
    if (!defined $sent) {
        return if $! == 11;
        # Nobody reads it any more: what still comes is dropped, and paid for.
        $stream->{is_broken} = 1;
        $sent = length $stream->{out};
        $self->no_more_from($id, $stream);
    }
    substr $stream->{out}, 0, $sent, '';
    $self->pay($id, $stream, $sent);
    $self->finish($id, $stream);
    return;
}

sub pay {
    my ($self, $id, $stream, $bytes) = @_;
    $stream->{consumed} += $bytes;
    return if $stream->{consumed} < GRANT_BYTES || $stream->{has_heard_close};
    $self->{channel}->send_frame(Channel::CREDIT, $id, pack 'N', $stream->{consumed});
    $stream->{consumed} = 0;
    return;
}

# A frame from the host that belongs to a stream. Dies when the host breaks the rules.
sub hear {
    my ($self, $type, $id, $payload) = @_;
    my $stream = $self->{streams}{$id};
    if (!$stream) {
        die "the host spoke of a stream that never was\n" if $id == 0 || $id > $self->{last};
        return;
    }
    if ($type == Channel::CREDIT) { $stream->{credit} += unpack 'N', $payload }
    elsif ($type == Channel::CLOSE) { $stream->{has_heard_close} = 1 }
    elsif ($stream->{is_broken}) { $self->pay($id, $stream, length $payload) }
    else {
        $stream->{out} .= $payload;
        die "the host sent more than its credit\n" if length $stream->{out} > CREDIT_BYTES + GRANT_BYTES;
    }
    $self->finish($id, $stream);
    return;
}

sub no_more_from {
    my ($self, $id, $stream) = @_;
    return if $stream->{has_sent_close};
    $stream->{has_sent_close} = 1;
    $self->{channel}->send_frame(Channel::CLOSE, $id, '');
    $self->finish($id, $stream);
    return;
}

sub finish {
    my ($self, $id, $stream) = @_;
    return if !$stream->{has_heard_close} || length $stream->{out};
    shutdown $stream->{socket}, 1 if !$stream->{is_shut}++;
    delete $self->{streams}{$id} if $stream->{has_sent_close};
    return;
}

1;
