# What the kernel does for the first process of a machine, asked for by the number of the call: a
# process for mount or insmod would cost 20 ms where the processor is emulated.
package Kernel;
use strict;

my $is_arm64 = -e '/lib/ld-linux-aarch64.so.1';

sub number { return $_[$is_arm64 ? 1 : 0] }
my $mount         = number(165, 40);
my $umount2       = number(166, 39);
my $finit_module  = number(313, 273);
my $reboot        = number(169, 142);
my $clock_gettime = number(228, 113);
my $clock_settime = number(227, 112);
my $sethostname   = number(170, 161);
my $setsid        = number(112, 157);

my %flags = (ro => 1, nosuid => 2, nodev => 4, noexec => 8, noatime => 1024, bind => 4096, move => 8192);

# mount('overlay', '/root', 'overlay', 'noatime,nodev', 'lowerdir=...'). Dies when it cannot.
sub mount {
    my ($source, $target, $type, $words, $data) = @_;
    my $flags = 0;
    $flags |= $flags{$_} for split /,/, $words // '';
    $data //= '';
    return if syscall($mount, "$source", "$target", "$type", $flags, "$data") == 0;
    die "cannot mount $source on $target: $!\n";
}

sub unmount {
    my ($target) = @_;
    return if syscall($umount2, "$target", 0) == 0;
    die "cannot unmount $target: $!\n";
}

# One of the modules of the image.
sub load_module {
    my ($path) = @_;
    open my $file, '<', $path or die "cannot read $path: $!\n";
    my $none = '';
    # EEXIST: it is there. ENODEV: for hardware that is not.
    return if syscall($finit_module, fileno $file, $none, 0) == 0 || $! == 17 || $! == 19;
    die "cannot load $path: $!\n";
}

sub power_off {
    syscall $reboot, 0xfee1dead, 672274793, 0x4321fedc, 0;
    # A machine without a switch: QEMU is told to take a restart for the end.
    syscall $reboot, 0xfee1dead, 672274793, 0x01234567, 0;
    return;
}

# Milliseconds of a clock that never jumps; only differences mean anything.
sub now_ms {
    my $time = pack 'q2', 0, 0;
    syscall $clock_gettime, 1, $time;
    my ($seconds, $nanos) = unpack 'q2', $time;
    return $seconds * 1000 + int($nanos / 1_000_000);
}

# The time of day, in milliseconds since the epoch.
sub set_clock {
    my ($ms) = @_;
    my $time = pack 'q2', int($ms / 1000), ($ms % 1000) * 1_000_000;
    syscall($clock_settime, 0, $time) == 0 or die "cannot set the clock: $!\n";
    return;
}

sub set_hostname {
    my ($name) = @_;
    syscall $sethostname, "$name", length $name;
    return;
}

sub new_session { return syscall $setsid }

# Makes the kernel's randomness anew out of its own and these bytes: two machines restored from one
# snapshot would draw the same numbers otherwise.
sub add_entropy {
    my ($bytes) = @_;
    open my $random, '+<', '/dev/urandom' or die "no randomness: $!\n";
    my $entropy = pack 'i i/a*', 8 * length $bytes, $bytes;
    ioctl $random, 0x40085203, $entropy or die "cannot add entropy: $!\n";    # RNDADDENTROPY
    ioctl $random, 0x5207, 0 or die "cannot reseed: $!\n";                    # RNDRESEEDCRNG
    return;
}

# Returns when the kernel has had enough randomness, which this file alone waits for.
sub await_entropy {
    open my $random, '<', '/dev/random' or die "no randomness: $!\n";
    sysread $random, my $byte, 1 or die "no randomness: $!\n";
    return;
}

sub random_bytes {
    my ($count) = @_;
    open my $random, '<', '/dev/urandom' or die "no randomness: $!\n";
    binmode $random;
    read($random, my $bytes, $count) == $count or die "no randomness\n";
    return $bytes;
}

sub slurp {
    my ($path) = @_;
    open my $file, '<', $path or return;
    local $/;
    my $text = <$file>;
    $text =~ s{\n\z}{} if defined $text;
    return $text;
}

# What a folder holds; Perl's own glob would load a library.
sub names {
    my ($folder) = @_;
    opendir my $handle, $folder or return;
    return sort grep { !/\A\.\.?\z/ } readdir $handle;
}

sub spew {
    my ($path, $text) = @_;
    open my $file, '>', $path or die "cannot write $path: $!\n";
    print $file $text;
    close $file or die "cannot write $path: $!\n";
    return;
}

1;
