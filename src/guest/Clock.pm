# Time in milliseconds. perl-base has no Time::HiRes, so the kernel is asked by the number of its
# call; where that is unknown, its 10 ms ticks are counted.
package Clock;
use strict;
use warnings;
use POSIX ();

our $machine = (POSIX::uname())[4];
our $is_linux64 = $^O eq 'linux' && length(pack 'j', 0) == 8;
my %numbers =
    (x86_64 => 228, aarch64 => 113, riscv64 => 113, loongarch64 => 113, s390x => 260, ppc64le => 246);
my $clock_gettime = $is_linux64 ? $numbers{$machine} : undef;

# A clock that never jumps; only differences mean anything.
sub now_ms { return ask(1) // int((POSIX::times())[0] * 1000 / POSIX::sysconf(&POSIX::_SC_CLK_TCK)) }

# Since the epoch.
sub wall_ms { return ask(0) // time * 1000 }

sub ask {
    my ($which) = @_;
    return if !defined $clock_gettime;
    my $time = pack 'q2', 0, 0;
    return if syscall($clock_gettime, $which, $time) != 0;
    my ($seconds, $nanos) = unpack 'q2', $time;
    return $seconds * 1000 + int($nanos / 1_000_000);
}

1;
