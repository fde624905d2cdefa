# The machine's end of the channel: frames over the serial port, never more than a bound in memory.
package Channel;
use strict;

sub READY() { 1 } sub OPEN() { 2 } sub DATA() { 3 } sub CLOSE() { 4 } sub CREDIT() { 5 } sub EXIT() { 6 } sub BEAT() { 7 } sub LOG() { 8 }
sub PROGRAM() { 10 } sub STOP() { 11 }
sub HEAD_BYTES() { 9 }
sub PAYLOAD_BYTES() { 65_536 }
sub BACKLOG_BYTES() { 1_048_576 }    # more waits in the streams' sockets

# `port`: a handle to read and write, made non-blocking here.
sub new {
    my ($class, $port) = @_;
    binmode $port;
    set_nonblocking($port);
    return bless { port => $port, in => '', out => '', is_away => 0 }, $class;
}

sub set_nonblocking {
    my ($handle) = @_;
    my $flags = fcntl $handle, 3, 0;
    fcntl $handle, 4, $flags | 2048 or die "cannot be non-blocking: $!\n";
    return;
}

sub handle { return $_[0]{port} }
sub has_backlog { return length $_[0]{out} }
sub is_crowded { return length $_[0]{out} >= BACKLOG_BYTES }

# True while nobody holds the host's end, as the last read had it.
sub is_away { return $_[0]{is_away} }

sub send_frame {
    my ($self, $type, $stream, $payload) = @_;
    $self->{out} .= pack('C N N', $type, $stream, length $payload) . $payload;
    return;
}

# Writes what the port takes now.
sub flush {
    my ($self) = @_;
    while (length $self->{out}) {
        my $sent = syswrite $self->{port}, $self->{out}, PAYLOAD_BYTES;
        last if !$sent;
        substr $self->{out}, 0, $sent, '';
    }
    return;
}

# Reads what the port has and returns the whole frames, each [type, stream, payload]. Dies on rubbish.
sub frames {
    my ($self) = @_;
    my $got = sysread $self->{port}, $self->{in}, 4 * PAYLOAD_BYTES, length $self->{in};
    # The port reads as ended while nobody holds its other end.
    $self->{is_away} = defined $got && $got == 0;
    my ($at, @frames) = (0);
    while (length($self->{in}) - $at >= HEAD_BYTES) {
        my ($type, $stream, $length) = unpack "x$at C N N", $self->{in};
        die "a frame of $length bytes came over the channel\n" if $length > PAYLOAD_BYTES;
        last if length($self->{in}) - $at < HEAD_BYTES + $length;
        push @frames, [$type, $stream, substr $self->{in}, $at + HEAD_BYTES, $length];
        $at += HEAD_BYTES + $length;
    }
    substr $self->{in}, 0, $at, '';
    return @frames;
}

1;
