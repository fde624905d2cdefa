# A line to the manager: one connection that carries one question at a time. A question is asked
# again, after growing pauses, until it has an answer that asking again would not change.
package Line;
use strict;
use warnings;
use Errno qw(EAGAIN EINTR EINPROGRESS);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use Socket qw(
    AF_UNIX SOCK_STREAM SOL_SOCKET SO_ERROR IPPROTO_TCP TCP_NODELAY PF_UNSPEC
    pack_sockaddr_un getaddrinfo
);
use Clock;
use Process;

use constant {
    PIECE        => 64 * 1024,
    HEAD_MAX     => 64 * 1024,
    ANSWER_MAX   => 2 * 1024 * 1024,
    PATIENCE_MS  => 60_000,             # without a byte; then the connection counts as dead
    RETRY_MAX_MS => 5_000,
};

# `url`: unix:/path, http://host:port or https://host. Dies when it is none of them.
sub new {
    my ($class, $url, $token) = @_;
    my $self = bless { token => $token, out => '', in => '' }, $class;
    if ($url =~ m{^unix:(/.+)$}) {
        die "the socket's path is longer than 107 bytes: $1\n" if length $1 > 107;
        @$self{qw(path host)} = ($1, 'mayfly');
    }
    elsif ($url =~ m{^http(s?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(\d+))?/?$}) {
        @$self{qw(tls host name port)} = ($1, $2 . ($3 ? ":$3" : ''), $2, $3 || ($1 ? 443 : 80));
        $self->{name} =~ tr/[]//d;
    }
    else { die "MAYFLY_URL is neither unix:/path, http://host:port nor https://host: $url\n" }
    return $self;
}

# Asks: method, path; type and body, or file and size; patience (ms); refused_ms: so long after
# the first refusal that asking again might change, it is taken for the answer after all; begin->()
# before the body of a good answer (again with each try) and into->(bytes) for its pieces.
sub ask {
    my ($self, %question) = @_;
    @$self{qw(question answer tries again_at refused_at)} = (\%question, undef, 0, 0, undef);
    return;
}

# The answer to the last question ({status, body}), when there is one. Status 0: it could not be put.
sub answer { return $_[0]{answer} }
sub is_idle { return !$_[0]{question} || $_[0]{answer} }
sub handle { return $_[0]{socket} }
sub wants_read { return $_[0]{socket} && !$_[0]{connecting} }

sub wants_write {
    my ($self) = @_;
    return $self->{busy} && ($self->{connecting} || length $self->{out} || $self->{file});
}

# The next moment at which `tick` has something to do though nothing came.
sub due {
    my ($self) = @_;
    return if $self->is_idle;
    return $self->{busy} ? $self->{heard} + $self->patience : $self->{again_at};
}

sub patience { return $_[0]{question}{patience} || PATIENCE_MS }

# Starts a try that is due; gives up one that heard nothing for too long.
sub tick {
    my ($self, $now) = @_;
    return if $self->is_idle || $now < $self->due;
    return $self->{busy} ? $self->failed('no answer') : $self->try_it;
}

sub hang_up {
    my ($self) = @_;
    close delete $self->{socket} if $self->{socket};
    if (my $pid = delete $self->{tunnel}) {
        kill 'KILL', $pid;
        waitpid $pid, 0;
        delete $Process::helpers{$pid};
    }
    @$self{qw(busy connecting out in file)} = (0, 0, '', '', undef);
    return;
}

# Hangs up, and neither asks again nor keeps an answer.
sub forget {
    my ($self) = @_;
    $self->hang_up;
    @$self{qw(question answer)} = ();
    return;
}

sub try_it {
    my ($self) = @_;
    my $question = $self->{question};
    $self->{was_open} = defined $self->{socket};
    if (!$self->{was_open}) {
        my $problem = $self->{tls} ? $self->open_tunnel : $self->open_socket;
        return $self->failed($problem) if $problem;
    }
    my $body = $question->{body} // '';
    my $size = $question->{file} ? $question->{size} : length $body;
    $self->{out} = "$question->{method} /v1/guest/$question->{path} HTTP/1.1\r\nHost: $self->{host}\r\n"
        . "Authorization: Bearer $self->{token}\r\nContent-Length: $size\r\n"
        . ($question->{type} ? "Content-Type: $question->{type}\r\n" : '') . "\r\n$body";
    if ($question->{file} && $size > 0) {
        sysseek $question->{file}, 0, 0;
        @$self{qw(file file_left)} = ($question->{file}, $size);
    }
    @$self{qw(busy heard in status)} = (1, Clock::now_ms(), '', undef);
    return;
}

# Returns what went wrong, or nothing.
sub open_socket {
    my ($self) = @_;
    my ($family, $address);
    if ($self->{path}) { ($family, $address) = (AF_UNIX, pack_sockaddr_un($self->{path})) }
    else {
        my ($error, @found) = getaddrinfo($self->{name}, $self->{port}, { socktype => SOCK_STREAM });
        return "cannot resolve $self->{name}: $error" if $error || !@found;
        ($family, $address) = @{ $found[ $self->{tries} % @found ] }{qw(family addr)};
    }
    socket my $socket, $family, SOCK_STREAM, 0 or return "no socket: $!";
    set_nonblocking($socket);
    setsockopt $socket, IPPROTO_TCP, TCP_NODELAY, 1 if !$self->{path};
    $self->{connecting} = 0;
    if (!connect $socket, $address) {
        return "cannot connect: $!" if $! != EINPROGRESS;
        $self->{connecting} = 1;
    }
    $self->{socket} = $socket;
    return;
}

# perl-base has no TLS: the openssl program carries the bytes and checks the certificate's name.
sub open_tunnel {
    my ($self) = @_;
    socketpair my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC or return "no socket: $!";
    my $name = $self->{name};
    my $is_address = $name =~ /^[0-9.]+$|:/;
    my @command = (
        'openssl', 's_client', '-quiet', '-verify_return_error',
        '-connect', ($name =~ /:/ ? "[$name]" : $name) . ":$self->{port}",
        $is_address ? ('-noservername', '-verify_ip', $name) : ('-servername', $name, '-verify_hostname', $name),
        $ENV{SSL_CERT_FILE} ? ('-CAfile', $ENV{SSL_CERT_FILE}) : (),
    );
    my ($pid, $problem) = Process::start(\@command, stdin => $theirs, stdout => $theirs);
    return "https needs the openssl program in the machine's image: $problem" if $problem;
    $Process::helpers{$pid} = 1;
    set_nonblocking($ours);
    @$self{qw(socket tunnel)} = ($ours, $pid);
    return;
}

sub set_nonblocking {
    my ($handle) = @_;
    fcntl $handle, F_SETFL, fcntl($handle, F_GETFL, 0) | O_NONBLOCK;
    return;
}

# A connection that had answered before may just have been closed while it was idle: that is no
# failure yet, and the question goes out again at once.
sub failed {
    my ($self, $why) = @_;
    my $was_stale = $self->{was_open} && $self->{in} eq '' && !defined $self->{status};
    $self->hang_up;
    return $self->ask_later($why, $was_stale);
}

sub ask_later {
    my ($self, $why, $at_once) = @_;
    my $tries = $self->{tries}++;
    my $pause = 50 * 2**($tries > 7 ? 7 : $tries);
    $pause = RETRY_MAX_MS if $pause > RETRY_MAX_MS;
    $self->{again_at} = Clock::now_ms() + ($at_once ? 0 : int($pause * (0.5 + rand 0.5)));
    print STDERR "mayfly-guest: $self->{question}{path}: $why; trying again\n" if $tries == 3 || $tries % 60 == 59;
    return;
}

sub on_writable {
    my ($self) = @_;
    if ($self->{connecting}) {
        local $! = unpack 'i', getsockopt $self->{socket}, SOL_SOCKET, SO_ERROR;
        return $self->failed("cannot connect: $!") if $!;
        $self->{connecting} = 0;
    }
    if ($self->{file} && length $self->{out} < PIECE) { $self->read_file or return }
    my $sent = syswrite $self->{socket}, $self->{out};
    if (defined $sent) {
        substr $self->{out}, 0, $sent, '';
        $self->{heard} = Clock::now_ms();
    }
    elsif ($! != EAGAIN && $! != EINTR) {
        # The manager may have answered before it closed: what it said is read first.
        @$self{qw(out file)} = ('', undef);
        $self->{closes} = 1;
    }
    return;
}

sub read_file {
    my ($self) = @_;
    my $want = $self->{file_left} < PIECE ? $self->{file_left} : PIECE;
    my $got = sysread $self->{file}, $self->{out}, $want, length $self->{out};
    if (!$got) {
        $self->hang_up;
        $self->{answer} = { status => 0, body => 'message=it%20changed%20while%20it%20was%20sent' };
        return 0;
    }
    $self->{file_left} -= $got;
    $self->{file} = undef if $self->{file_left} == 0;
    return 1;
}

sub on_readable {
    my ($self) = @_;
    my $got = sysread $self->{socket}, $self->{in}, 4 * PIECE, length $self->{in};
    return if !defined $got && ($! == EAGAIN || $! == EINTR);
    # Unasked: the manager has closed an idle connection.
    return $self->hang_up if !$self->{busy};
    if (!$got) {
        return $self->finished if defined $got && defined $self->{status} && $self->{until_close};
        return $self->failed('the connection was closed');
    }
    $self->{heard} = Clock::now_ms();
    $self->read_head or return if !defined $self->{status};
    return $self->{chunked} ? $self->read_chunks : $self->read_body;
}

# True once the head is whole.
sub read_head {
    my ($self) = @_;
    my $end = index $self->{in}, "\r\n\r\n";
    if ($end < 0) {
        $self->failed('an answer with too long a head') if length $self->{in} > HEAD_MAX;
        return 0;
    }
    my $head = substr $self->{in}, 0, $end + 4, '';
    my ($status) = $head =~ m{^HTTP/1\.[01] (\d{3})};
    if (!defined $status) {
        $self->failed('an answer that is not HTTP');
        return 0;
    }
    return $self->read_head if $status == 100;
    my ($length) = $head =~ /^Content-Length:\s*(\d+)/mi;
    @$self{qw(status body left)} = ($status, '', $status == 204 ? 0 : $length);
    $self->{closes} = $head =~ /^Connection:\s*close/mi;
    $self->{chunked} = $head =~ /^Transfer-Encoding:\s*chunked/mi;
    $self->{until_close} = !$self->{chunked} && !defined $self->{left};
    $self->{question}{begin}->() if $status == 200 && $self->{question}{begin};
    return 1;
}

sub read_body {
    my ($self) = @_;
    my $left = $self->{left} // length $self->{in};
    my $piece = substr $self->{in}, 0, $left, '';
    $self->{left} -= length $piece if defined $self->{left};
    $self->deliver($piece) or return;
    return defined $self->{left} && $self->{left} == 0 ? $self->finished : ();
}

sub read_chunks {
    my ($self) = @_;
    while (1) {
        if (!$self->{left}) {
            $self->{in} =~ s/^(?:\r\n)?([0-9A-Fa-f]{1,8})[^\r\n]*\r\n// or return;
            $self->{left} = hex $1;
            # The trailer is not worth keeping the connection for.
            if ($self->{left} == 0) { $self->{closes} = 1; return $self->finished }
        }
        my $piece = substr $self->{in}, 0, $self->{left}, '';
        return if $piece eq '';
        $self->{left} -= length $piece;
        $self->deliver($piece) or return;
    }
}

sub deliver {
    my ($self, $piece) = @_;
    if ($self->{status} == 200 && $self->{question}{into}) {
        $self->{question}{into}->($piece) if length $piece;
        return 1;
    }
    $self->{body} .= $piece;
    return 1 if length $self->{body} <= ANSWER_MAX;
    $self->failed('an answer too long');
    return 0;
}

sub finished {
    my ($self) = @_;
    my ($status, $body) = @$self{qw(status body)};
    # What was not sent of the question must not be taken for the next one.
    my $is_clean = !$self->{closes} && !$self->{until_close} && $self->{out} eq '' && !$self->{file};
    $self->{busy} = 0;
    $self->hang_up if !$is_clean;
    if ($status == 408 || $status == 429 || $status >= 500) {
        my $patience = $self->{question}{refused_ms};
        my $refused_at = $self->{refused_at} //= Clock::now_ms();
        return $self->ask_later("status $status", 0) if !defined $patience || Clock::now_ms() < $refused_at + $patience;
    }
    $self->{answer} = { status => $status, body => $body };
    return;
}

1;
