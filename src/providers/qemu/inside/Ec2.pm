# A machine of EC2, from its kernel to its end: there is no channel and nobody to wait for. It asks
# for its address by DHCP, for its user data at the instance's metadata, runs that and turns itself
# off, which terminates the instance. What the program prints is on the console.
package Ec2;
use strict;
use Dhcp;
use Kernel;
use Metadata;
use Network;
use Root;
use Scratch;

sub BOOT_SECONDS() { 300 }    # until the user data runs
sub WAIT_MS() { 60_000 }    # for a disk, a network card
sub ADD_PARTITION() { 1 }
sub MIB() { 1_048_576 }

# Whatever becomes of it, the machine is off in the end.
sub main {
    eval { boot(); 1 } or print STDERR "mayfly: $@";
    off();
    return;
}

sub boot {
    $SIG{ALRM} = sub { print STDERR "mayfly: its time is over\n"; off() };
    alarm BOOT_SECONDS;
    Kernel::load_module("/modules/$_") for split /\n/, Kernel::slurp('/modules/ec2-order') // '';
    my $base = wait_for('a disk with the system', sub { partition('mayfly-base') });
    Root::open_base("/dev/$base");
    my $scratch = rest_of_disk($base);
    Scratch::prepare($scratch);
    unlink "/modules/$_" for Kernel::names('/modules');
    my $card = wait_for('a network card', sub { Network::card() });
    my $network = Dhcp::lease($card);
    my $name = "ip-$network->{address}";
    $name =~ tr/./-/;
    Kernel::set_hostname($name);
    # Blocks until the kernel's randomness is good enough for a key.
    Kernel::await_entropy();
    srand unpack 'L', Kernel::random_bytes(4);
    Root::build('dmcrypt', $scratch);
    Root::enter({ hostname => $name, network => $network });
    mkdir '/run/mayfly', 0700;
    add_switches();
    my $path = script();
    # It sets its own deadline, by `shutdown`.
    alarm 0;
    my $how = run($path);
    print STDERR "mayfly: the user data ended with $how\n";
    return;
}

# What `$look` finds, once it does.
sub wait_for {
    my ($what, $look) = @_;
    my $latest = Kernel::now_ms() + WAIT_MS;
    while (Kernel::now_ms() < $latest) {
        my $found = $look->();
        return $found if defined $found;
        select undef, undef, undef, 0.05;
    }
    die "there is no $what\n";
}

# The partition that the disk's table calls so.
sub partition {
    my ($label) = @_;
    for my $block (Kernel::names('/sys/class/block')) {
        return $block if (Kernel::slurp("/sys/class/block/$block/uevent") // '') =~ /^PARTNAME=\Q$label\E$/m;
    }
    return;
}

# What the disk has behind the system, as a partition of its own. It is in no table on the disk:
# the kernel is told, since a volume may be larger than the image was.
sub rest_of_disk {
    my ($base) = @_;
    my $whereabouts = readlink "/sys/class/block/$base" // '';
    my ($disk) = $whereabouts =~ m{([^/]+)/[^/]+\z} or die "$base is not on a disk\n";
    my $of = sub { Kernel::slurp("/sys/class/block/$_[0]") };
    my $end = 512 * ($of->("$base/start") + $of->("$base/size"));
    my $from = MIB * int(($end + MIB - 1) / MIB);
    # The last of it holds the copy of the table.
    my $bytes = MIB * int((512 * $of->("$disk/size") - $from) / MIB - 1);
    die "the disk has no room to write to\n" if $bytes < 32 * MIB;
    my $number = 1 + $of->("$base/partition");
    my $partition = pack 'q q i x4 a64 a64', $from, $bytes, $number, '', '';
    my $request = pack 'i i i x4 P', ADD_PARTITION, 0, length $partition, $partition;
    open my $whole, '<', "/dev/$disk" or die "cannot open /dev/$disk: $!\n";
    ioctl $whole, 0x1269, $request or die "cannot divide $disk: $!\n";    # BLKPG
    return '/dev/' . ($base =~ s/\d+\z/$number/r);
}

# The user data as a file, unpacked.
sub script {
    my ($path, $data) = ('/run/mayfly/user-data', Metadata::get('/latest/user-data'));
    die "the instance has no user data\n" if !defined $data || $data eq '';
    if ($data =~ /\A\x1f\x8b/) {
        Kernel::spew("$path.gz", $data);
        system { '/bin/gzip' } 'gzip', '-d', "$path.gz" and die "the user data cannot be unpacked\n";
    }
    else { Kernel::spew($path, $data) }
    open my $file, '<', $path or die "cannot read $path: $!\n";
    read $file, my $begin, 2;
    die "the user data is no script: only what begins with #! is run\n" if $begin ne '#!';
    chmod 0700, $path;
    return $path;
}

# `shutdown` as programs call it; the first process reads what is wanted.
sub add_switches {
    $SIG{USR1} = sub {
        my $when = Kernel::slurp('/run/mayfly/shutdown') // 'now';
        alarm 60 * $1, return if $when =~ /\A(\d{1,6})\z/;
        off() if $when eq 'now';
    };
    my $switch = <<'SWITCH';
#!/bin/sh
when=now
for word; do
  case $word in
  +[0-9]*) when=${word#+} ;;
  -c) when=never ;;
  esac
done
echo "$when" >/run/mayfly/shutdown && kill -USR1 1
SWITCH
    for my $path (map { "/usr/sbin/$_" } qw(shutdown poweroff halt reboot)) {
        Kernel::spew($path, $switch);
        chmod 0755, $path;
    }
    return;
}

# Runs it to its end; returns its status in words.
sub run {
    my ($path) = @_;
    my $pid = fork // die "cannot fork: $!\n";
    if ($pid == 0) {
        Kernel::new_session();
        $SIG{$_} = 'DEFAULT' for qw(ALRM USR1);
        %ENV = (PATH => '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME => '/root');
        open STDIN, '<', '/dev/null';
        chdir '/';
        exec { $path } $path;
        print STDERR "mayfly: the user data cannot be run: $!\n";
        kill 'KILL', $$;
    }
    watch_button();
    my $ended = 0;
    $ended = waitpid -1, 0 while $ended != $pid;
    return $? & 127 ? 'signal ' . ($? & 127) : 'status ' . ($? >> 8);
}

# EC2 presses the power button first when it ends an instance, and waits for minutes.
sub watch_button {
    for my $name (grep { /\Aevent/ } Kernel::names('/dev/input')) {
        my $pid = fork // return;
        next if $pid != 0;
        $SIG{$_} = 'DEFAULT' for qw(ALRM USR1);
        open my $events, '<', "/dev/input/$name" or kill 'KILL', $$;
        # struct input_event: a key (1), the power key (116), pressed (1).
        while (sysread $events, my $event, 24) {
            next if join(' ', unpack 'x16 S S l', $event) ne '1 116 1';
            Kernel::spew('/run/mayfly/shutdown', "now\n");
            kill 'USR1', 1;
        }
        kill 'KILL', $$;
    }
    return;
}

sub off {
    # What was printed is on its way still: TCSBRK waits until it is out.
    ioctl STDERR, 0x5409, 1;
    Kernel::power_off();
    return;
}

1;
