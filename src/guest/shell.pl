#!/usr/bin/perl
# A way in for a person: knocks at the manager until it opens, gives who comes a shell on a terminal
# of its own, and knocks again once that is over. The guest runs it for the command `mayfly-shell`,
# with its own URL and, as MAYFLY_DOOR, the word to knock with; docs/guest.md has the frames.
use strict;
use warnings;
use Fcntl qw(O_RDWR O_NOCTTY);
use POSIX ();
use Socket qw(AF_UNIX SOCK_STREAM pack_sockaddr_un);

use constant {
    # What Linux calls them on all but a few old architectures.
    TIOCGPTN => 0x80045430, TIOCSPTLCK => 0x40045431, TIOCSCTTY => 0x540E, TIOCSWINSZ => 0x5414,
    FRAME_MAX => 65_536,
    HELD_MAX => 262_144,
    KNOCK_SECONDS => 1,
    ANSWER_SECONDS => 10,
    LOOK_SECONDS => 0.5,
};

my ($url) = @ARGV;
my $word = delete $ENV{MAYFLY_DOOR} // '';
my ($path) = ($url // '') =~ m{^unix:(/.+)$} or die "a shell needs a socket to its manager\n";
$SIG{PIPE} = 'IGNORE';
while (1) {
    my ($peer, $rest) = knock();
    serve($peer, $rest) if $peer;
    select undef, undef, undef, KNOCK_SECONDS;
}

# The connection once somebody has opened, and what came with that; or nothing.
sub knock {
    socket my $peer, AF_UNIX, SOCK_STREAM, 0 or return;
    connect $peer, pack_sockaddr_un($path) or return;
    syswrite $peer, "GET /v1/guest/shell HTTP/1.1\r\nHost: mayfly\r\nAuthorization: Bearer $word\r\n"
        . "Connection: Upgrade\r\nUpgrade: mayfly-shell\r\n\r\n" or return;
    my $answer = '';
    my $until = time + ANSWER_SECONDS;
    while ($answer !~ /\r\n\r\n/) {
        my $reads = '';
        vec($reads, fileno $peer, 1) = 1;
        return if time > $until || length $answer > FRAME_MAX;
        next if select($reads, undef, undef, 1) < 1;
        sysread $peer, $answer, FRAME_MAX, length $answer or return;
    }
    my ($status, $rest) = $answer =~ m{^HTTP/1\.1 (\d+)(?s:.*?)\r\n\r\n((?s:.*))$} or return;
    return $status == 101 ? ($peer, $rest) : ();
}

# From the first frame, which says how large the person's terminal is, to the end of the shell or of
# the connection.
sub serve {
    my ($peer, $in) = @_;
    my ($out, $keys, $terminal, $shell, $status) = ('', '');
    while (1) {
        while (my ($type, $payload) = take_frame(\$in)) {
            if ($type eq 'W' && !$terminal) { ($terminal, $shell) = start_shell($payload, \$out) }
            elsif ($type eq 'W') { set_size($terminal, $payload) }
            elsif ($type eq 'D') { $keys .= $payload }
        }
        if (defined $shell && !defined $status && waitpid($shell, POSIX::WNOHANG()) == $shell) {
            $status = $? & 127 ? 128 + ($? & 127) : $? >> 8;
        }
        my ($reads, $writes) = ('', '');
        vec($reads, fileno $peer, 1) = 1 if length $keys < HELD_MAX;
        vec($reads, fileno $terminal, 1) = 1 if $terminal && length $out < HELD_MAX;
        vec($writes, fileno $peer, 1) = 1 if length $out;
        vec($writes, fileno $terminal, 1) = 1 if $terminal && length $keys;
        my $found = select $reads, $writes, undef, defined $status ? 0 : LOOK_SECONDS;
        if (defined $status && $found <= 0) {
            # All that it wrote is through; whoever it left behind has no terminal any more.
            put_all($peer, $out . frame('E', $status));
            last;
        }
        next if $found <= 0;
        if (vec $reads, fileno $peer, 1) {
            sysread $peer, $in, FRAME_MAX, length $in or last;
        }
        if (vec $writes, fileno $peer, 1) {
            my $put = syswrite $peer, $out;
            last if !defined $put;
            substr $out, 0, $put, '';
        }
        next if !$terminal;
        if (vec $writes, fileno $terminal, 1) {
            my $put = syswrite $terminal, $keys;
            substr $keys, 0, $put // length $keys, '';
        }
        if (vec $reads, fileno $terminal, 1) {
            if (sysread $terminal, my $bytes, 16_384) { $out .= frame('D', $bytes) }
            # Nobody holds its other end any more; that the shell is over is seen soon.
            elsif (!defined $status) { select undef, undef, undef, 0.02 }
            else { close $terminal; undef $terminal }
        }
    }
    end_shell($shell) if defined $shell && !defined $status;
    return;
}

sub frame { return pack('a1 N/a*', @_) }

# The first whole frame of what came: its type and payload; or nothing.
sub take_frame {
    my ($in) = @_;
    return if length $$in < 5;
    my ($type, $length) = unpack 'a1 N', $$in;
    die "a frame of $length bytes\n" if $length > FRAME_MAX;
    return if length $$in < 5 + $length;
    my $payload = substr $$in, 5, $length;
    substr $$in, 0, 5 + $length, '';
    return ($type, $payload);
}

sub put_all {
    my ($handle, $bytes) = @_;
    while (length $bytes) {
        my $put = syswrite($handle, $bytes) // return;
        substr $bytes, 0, $put, '';
    }
    return;
}

# The person's end of a new terminal and the shell on it; or nothing, and why as output.
sub start_shell {
    my ($size, $out) = @_;
    my ($terminal, $name) = open_terminal();
    if (!$terminal) {
        $$out .= frame('D', "there is no terminal to be had here: $!\r\n") . frame('E', 69);
        return;
    }
    set_size($terminal, $size);
    my ($term) = $size =~ /^\d+ \d+ ([\w.+-]{1,40})$/;
    my $pid = fork;
    return ($terminal, $pid) if $pid;
    POSIX::setsid();
    sysopen my $own, $name, O_RDWR or POSIX::_exit(69);
    ioctl $own, TIOCSCTTY, 0;
    POSIX::dup2(fileno $own, $_) for 0 .. 2;
    POSIX::close($_) for 3 .. 63;
    $SIG{PIPE} = 'DEFAULT';
    $ENV{TERM} = $term // 'dumb';
    no warnings 'exec';
    for my $shell ('/bin/bash', '/bin/sh') { exec { $shell } $shell }
    POSIX::_exit(127);
}

sub open_terminal {
    sysopen my $terminal, '/dev/ptmx', O_RDWR | O_NOCTTY or return;
    my $number = my $unlocked = pack 'i', 0;
    ioctl $terminal, TIOCSPTLCK, $unlocked or return;
    ioctl $terminal, TIOCGPTN, $number or return;
    return ($terminal, '/dev/pts/' . unpack 'i', $number);
}

sub set_size {
    my ($terminal, $size) = @_;
    my ($columns, $rows) = $size =~ /^(\d{1,4}) (\d{1,4})/ or return;
    my $packed = pack 'S4', $rows, $columns, 0, 0;
    ioctl $terminal, TIOCSWINSZ, $packed;
    return;
}

# Who hung up took the terminal along; what does not heed that is killed.
sub end_shell {
    my ($pid) = @_;
    kill 'HUP', -$pid, $pid;
    for (1 .. 20) {
        return if waitpid($pid, POSIX::WNOHANG()) == $pid;
        select undef, undef, undef, 0.1;
    }
    kill 'KILL', -$pid, $pid;
    waitpid $pid, 0;
    return;
}
