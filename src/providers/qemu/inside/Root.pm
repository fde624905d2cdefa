# The system that a program runs in: the image's, which nobody writes to, and above it all that is written.
package Root;
use strict;
use Binfmt;
use Kernel;
use Network;
use Scratch;
use Task;

sub mount_kernel {
    my ($root) = @_;
    Kernel::mount('proc', "$root/proc", 'proc', 'nosuid,nodev,noexec');
    Kernel::mount('sys', "$root/sys", 'sysfs', 'nosuid,nodev,noexec');
    Kernel::mount('dev', "$root/dev", 'devtmpfs', 'nosuid', 'mode=755');
    return;
}

# The image's own system at /base, from its disk, with what its programs need before there is more.
sub open_base {
    my ($disk) = @_;
    Kernel::mount($disk, '/base', 'squashfs', 'ro');
    Kernel::mount('dev', '/base/dev', 'devtmpfs', 'nosuid', 'mode=755');
    Kernel::mount('proc', '/base/proc', 'proc', 'nosuid,nodev,noexec');
    Binfmt::register('/base');
    Network::loopback();
    return;
}

# The whole system at /root: the read-only base below, everything written on the scratch.
sub build {
    my ($kind, $disk) = @_;
    Scratch::make($kind, $disk);
    mkdir "/scratch/$_", 0755 for qw(upper overlay);
    my $layers = 'lowerdir=/base,upperdir=/scratch/upper,workdir=/scratch/overlay';
    # What is thrown away needs no care for power cuts.
    Kernel::mount('root', '/root', 'overlay', '', "$layers,volatile");
    mount_kernel('/root');
    for my $place (['work', '/root/work', 0755], ['containers', '/root/var/lib/containers', 0700], ['docker', '/root/var/lib/docker', 0710]) {
        my ($name, $where, $mode) = @$place;
        mkdir "/store/$name", $mode;
        Task::make_folder($where);
        Kernel::mount("/store/$name", $where, '', 'bind');
    }
    return;
}

# `work`: hostname, and network as Network::begin takes it.
sub enter {
    my ($work) = @_;
    mkdir "/root/dev/$_", 0755 for qw(pts shm mqueue);
    Kernel::mount('devpts', '/root/dev/pts', 'devpts', 'nosuid,noexec', 'gid=5,mode=620,ptmxmode=666');
    Kernel::mount('shm', '/root/dev/shm', 'tmpfs', 'nosuid,nodev', 'mode=1777');
    Kernel::mount('run', '/root/run', 'tmpfs', 'nosuid,nodev', 'mode=755,size=25%');
    Kernel::mount('cgroup', '/root/sys/fs/cgroup', 'cgroup2', 'nosuid,nodev,noexec', 'nsdelegate');
    Binfmt::mount_at('/root');
    my $name = $work->{hostname} // 'mayfly';
    Kernel::spew('/root/etc/hostname', "$name\n");
    Kernel::spew('/root/etc/hosts', "127.0.0.1 localhost $name\n::1 localhost\n");
    Network::begin($work->{network}, '/root') if $work->{network};
    chdir '/root';
    Kernel::mount('/root', '/', '', 'move');
    chroot '.' or die "cannot enter the system: $!\n";
    chdir '/';
    symlink '/proc/self/fd', '/dev/fd';
    symlink "/proc/self/fd/$_->[0]", "/dev/$_->[1]" for [0, 'stdin'], [1, 'stdout'], [2, 'stderr'];
    return;
}

1;
