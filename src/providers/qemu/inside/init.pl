#!/usr/bin/perl
# The first process of a machine, and the only one of ours in it: boots it, waits to be told what to
# run, gives it disks under a key of its own, runs it, and turns the machine off. All of it is one
# process, since each fork and exec costs 20 ms where the processor is emulated.
# README.md, one folder up, describes what goes over the channel.
use strict;
BEGIN { unshift @INC, '/mayfly' }
use Channel;
use Json;
use Kernel;
use Relay;
use Root;
use Scratch;
use Task;

my ($channel, %words);

sub main {
    Root::mount_kernel('');
    %words = map { /\Amayfly\.([^=]+)=?(.*)/s ? ($1 => $2) : () } split ' ', Kernel::slurp('/proc/cmdline');
    Kernel::load_module("/modules/$_") for split /\n/, Kernel::slurp('/modules/order');
    if (defined $words{ec2}) { require Ec2; return Ec2::main() }
    Root::open_base(disk('base', '/dev/vda'));
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
    Root::build($work->{scratch} // 'dmcrypt', disk('scratch', '/dev/vdb'));
    Root::enter($work);
    Task::write_files('/run/mayfly/program', $work->{files});
    Task::make_folder('/run/mayfly/guest');
    my $relay = Relay->new($channel, '/run/mayfly/guest/guest.sock');
    leave(Task::run($work, $channel, $relay, '/work'));
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
