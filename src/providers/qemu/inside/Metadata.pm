# The instance's metadata, by version 2 of its service: a token first.
package Metadata;
use strict;
use Kernel;

sub WAIT_MS() { 60_000 }
sub TURN_SECONDS() { 5 }
sub BYTES_MAX() { 1_048_576 }
my $service = pack 'S n C4 x8', 2, 80, 169, 254, 169, 254;

# What is at a path; nothing where there is none. Dies when the service does not answer. Where it is
# and how long it is waited for are said by tests only.
sub get {
    my ($path, $at, $wait_ms) = @_;
    $at //= $service;
    my $latest = Kernel::now_ms() + ($wait_ms // WAIT_MS);
    my $why;
    while (Kernel::now_ms() < $latest) {
        my ($status, $body) = eval { ask($at, 'PUT', '/latest/api/token', 'X-aws-ec2-metadata-token-ttl-seconds: 60') };
        ($status, $body) = eval { ask($at, 'GET', $path, "X-aws-ec2-metadata-token: $body") } if ($status // 0) == 200;
        return $body if ($status // 0) == 200;
        return if ($status // 0) == 404;
        $why = defined $status ? "it answered $status" : $@;
        select undef, undef, undef, 0.5;
    }
    chomp $why;
    die "the instance's metadata cannot be had: $why\n";
}

# Status and body.
sub ask {
    my ($at, $verb, $path, $header) = @_;
    socket my $socket, 2, 1, 0 or die "no socket: $!\n";
    # SO_RCVTIMEO and SO_SNDTIMEO, which holds for connect too.
    setsockopt $socket, 1, $_, pack 'q q', TURN_SECONDS, 0 for 20, 21;
    connect $socket, $at or die "cannot connect: $!\n";
    my $request = "$verb $path HTTP/1.0\r\nHost: 169.254.169.254\r\nContent-Length: 0\r\n$header\r\n\r\n";
    syswrite $socket, $request or die "cannot ask: $!\n";
    my $answer = '';
    while (1) {
        my $got = sysread $socket, $answer, 65_536, length $answer;
        die "no answer: $!\n" if !defined $got;
        last if $got == 0;
        die "too long an answer\n" if length $answer > BYTES_MAX;
    }
    my ($status, $head, $body) = $answer =~ m{\AHTTP/1\.\d (\d{3})(.*?)\r\n\r\n(.*)\z}s or die "a strange answer\n";
    # A connection may break before all of it came.
    die "half an answer\n" if $head =~ /^content-length: *(\d+)/mi && $1 != length $body;
    return ($status, $body);
}

1;
