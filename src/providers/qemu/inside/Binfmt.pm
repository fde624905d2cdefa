# Programs of other architectures, by the emulators in the image. The kernel opens each of them now
# (flag F of its description), so that they work in containers, too.
package Binfmt;
use strict;
use Kernel;

my @names = qw(aarch64 arm ppc64le riscv64 s390x x86_64);
my $place = 'proc/sys/fs/binfmt_misc';

# `base`: the image's system. Does nothing where it has no emulators.
sub register {
    my ($base) = @_;
    my @lines = map { grep { /\A:/ } split /\n/, Kernel::slurp("$base/usr/lib/binfmt.d/qemu-$_.conf") // '' } @names;
    return if !@lines || !-d "/$place";
    mount_at('');
    open my $register, '>', "/$place/register" or die "no emulators can be registered: $!\n";
    # From within the base, where the emulators' paths mean what they will mean later.
    my $pid = fork // die "cannot fork: $!\n";
    if ($pid == 0) {
        chroot $base and map { syswrite $register, $_ } @lines;
        kill 'KILL', $$;
    }
    waitpid $pid, 0;
    return;
}

# For tools that look there for what is registered.
sub mount_at {
    my ($root) = @_;
    Kernel::mount('binfmt_misc', "$root/$place", 'binfmt_misc', 'nosuid,nodev,noexec') if -d "$root/$place";
    return;
}

1;
