#!/usr/bin/perl
# The first process of a machine, and the only one of ours in it: boots it, waits to be told what to
# run, gives it disks under a key of its own, runs it, and turns the machine off. All of it is one
# process, since each fork and exec costs 20 ms where the processor is emulated.
# README.md, one folder up, describes what goes over the channel.
use strict;
BEGIN { unshift @INC, '/mayfly' }
use Binfmt;
use Channel;
use Json;
use Kernel;
use Network;
use Relay;
use Scratch;
use Task;

my ($channel, %words);

sub main {
    mount_kernel('');
    %words = map { /\Amayfly\.([^=]+)=?(.*)/s ? ($1 => $2) : () } split ' ', Kernel::slurp('/proc/cmdline');
    Kernel::load_module("/modules/$_") for split /\n/, Kernel::slurp('/modules/order');
    Kernel::mount(disk('base', '/dev/vda'), '/base', 'squashfs', 'ro');
    Kernel::mount('dev', '/base/dev', 'devtmpfs', 'nosuid', 'mode=755');
    Kernel::mount('proc', '/base/proc', 'proc', 'nosuid,nodev,noexec');
    Binfmt::register('/base');
    Network::loopback();
    Scratch::prepare(disk('scratch', '/dev/vdb'));
    warm_up() if defined $words{warm};
    # Memory back: the modules are loaded, and their files lie in it.
    unlink "/modules/$_" for Kernel::names('/modules');
    $channel = Channel->new(open_port($words{port} // 'mayfly'));
    my $work = wait_for_program();
    $SIG{PIPE} = 'IGNORE';
    # Should anything block this process itself; the deadline is looked at all the time besides.
    $SIG{ALRM} = \&Kernel::power_off;
    alarm $work->{deadlineSeconds} + 60;
    become_unique($work);
    build_root($work->{scratch} // 'dmcrypt');
    enter_root($work);
    Task::write_files('/run/mayfly/program', $work->{files});
    Task::make_folder('/run/mayfly/guest');
    my $relay = Relay->new($channel, '/run/mayfly/guest/guest.sock');
    leave(Task::run($work, $channel, $relay, '/work'));
    return;
}

sub mount_kernel {
    my ($root) = @_;
    Kernel::mount('proc', "$root/proc", 'proc', 'nosuid,nodev,noexec');
    Kernel::mount('sys', "$root/sys", 'sysfs', 'nosuid,nodev,noexec');
    Kernel::mount('dev', "$root/dev", 'devtmpfs', 'nosuid', 'mode=755');
    return;
}

# By its serial number `mayfly-NAME`; some machines number their disks backwards.
sub disk {
    my ($name, $otherwise) = @_;
    for my $disk (grep { /\Avd/ } Kernel::names('/sys/block')) {
        return "/dev/$disk" if (Kernel::slurp("/sys/block/$disk/serial") // '') eq "mayfly-$name";
    }
    return -e $otherwise ? $otherwise : undef;
}

# There is no udev to name ports: the kernel's own list is asked. The port may come a little late.
sub open_port {
    my ($wanted) = @_;
    my $latest = Kernel::now_ms() + 10_000;
    while (Kernel::now_ms() < $latest) {
        for my $name (Kernel::names('/sys/class/virtio-ports')) {
            next if (Kernel::slurp("/sys/class/virtio-ports/$name/name") // '') ne $wanted;
            open my $port, '+<', "/dev/$name" or die "cannot open /dev/$name: $!\n";
            return $port;
        }
        select undef, undef, undef, 0.01;
    }
    die "there is no port $wanted\n";
}

# For a machine that others will be copied from: has in memory what every program begins with.
sub warm_up {
    my $modules = join ' ', map { "-M$_" } qw(warnings constant Cwd Errno Fcntl POSIX Socket);
    eval { Scratch::in_base('/bin/sh', '-c', "perl $modules -e 1"); 1 } or print STDERR "mayfly: $@";
    return;
}

# Says READY and returns what to run. Nothing secret is made before, and nothing that two machines
# restored from a snapshot of this moment may not share.
sub wait_for_program {
    my ($up_seconds) = split ' ', Kernel::slurp('/proc/uptime');
    my ($release) = Kernel::slurp('/proc/sys/kernel/osrelease');
    my @scratch = Scratch::kinds(disk('scratch', '/dev/vdb'));
    my $ready = { kernel => $release, bootMs => int(1000 * $up_seconds), scratch => \@scratch };
    $channel->send_frame(Channel::READY, 0, Json::encode($ready));
    return Task::receive($channel) || power_off_after();
}

# Its own randomness first, then its own time and name.
sub become_unique {
    my ($work) = @_;
    my $entropy = Json::from_base64($work->{entropy} // '');
    die "the host gave no entropy\n" if length $entropy < 64;
    Kernel::add_entropy($entropy);
    Kernel::set_clock($work->{timeMs});
    Kernel::set_hostname($work->{hostname} // 'mayfly');
    srand unpack 'L', Kernel::random_bytes(4);
    return;
}

# The whole system at /root: the read-only base below, everything written on the scratch.
sub build_root {
    my ($kind) = @_;
    Scratch::make($kind, disk('scratch', '/dev/vdb'));
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

sub enter_root {
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

# Says how it ended, waits for the host to have heard it, and turns the machine off.
sub leave {
    my ($how) = @_;
    $channel->send_frame(Channel::EXIT, 0, Json::encode($how));
    power_off_after();
    return;
}

sub power_off_after {
    my $latest = Kernel::now_ms() + 2_000;
    while ($channel && Kernel::now_ms() < $latest) {
        $channel->flush;
        $channel->frames;
        last if $channel->is_away;
        select undef, undef, undef, 0.01;
    }
    Kernel::power_off();
    return;
}

if (!eval { main(); 1 }) {
    my $why = $@;
    print STDERR "mayfly: $why";
    eval { leave({ exitCode => undef, reason => 'error', detail => substr $why, 0, 500 }) };
}
Kernel::power_off();
