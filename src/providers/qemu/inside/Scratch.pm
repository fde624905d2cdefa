# Where everything that a machine writes goes: a disk encrypted under a key that only this machine's
# memory holds, or memory itself. Made only after the machine's randomness is its own.
package Scratch;
use strict;
use Kernel;

my $ext4 = 'noinit_itable,nobarrier,noauto_da_alloc';

# The kinds that this machine can have.
sub kinds {
    my ($disk) = @_;
    my @kinds = ('tmpfs');
    return @kinds if !defined $disk;
    push @kinds, 'plain';
    push @kinds, 'dmcrypt' if -e '/dev/mapper/control';
    push @kinds, 'gocryptfs' if -e '/dev/fuse' && -x '/base/usr/bin/gocryptfs';
    return @kinds;
}

# Mounts an empty place at /scratch for the overlay's upper layer, and one at /store for the work
# folder and container stores (the same, except with gocryptfs, on which overlayfs cannot stand).
sub make {
    my ($kind, $disk) = @_;
    die "this machine cannot have its scratch as $kind\n" if !grep { $_ eq $kind } kinds($disk);
    if ($kind eq 'tmpfs') { Kernel::mount('scratch', '/scratch', 'tmpfs', 'nodev', 'size=80%,mode=755') }
    if ($kind eq 'dmcrypt') { on_disk(encrypted($disk), '/scratch') }
    if ($kind eq 'plain') { on_disk($disk, '/scratch') }
    if ($kind eq 'gocryptfs') { return with_gocryptfs($disk) }
    mkdir '/scratch/store';
    Kernel::mount('/scratch/store', '/store', '', 'bind');
    return;
}

sub on_disk {
    my ($device, $where) = @_;
    in_base('/sbin/mke2fs', qw(-q -F -t ext4 -O ^has_journal,^resize_inode -m 0),
        qw(-E nodiscard,lazy_itable_init=1), $device);
    Kernel::mount($device, $where, 'ext4', 'noatime', $ext4);
    return;
}

# Runs one of the base's own programs, before there is a system to run it in. Dies when it fails.
sub in_base {
    my @command = @_;
    my $pid = fork // die "cannot fork: $!\n";
    if ($pid == 0) {
        chroot '/base' and chdir '/';
        exec { $command[0] } @command;
        kill 'KILL', $$;
    }
    waitpid $pid, 0;
    die "$command[0] failed with $?\n" if $? != 0;
    return;
}

sub DM_CREATE() { 3 } sub DM_RESUME() { 6 } sub DM_LOAD() { 9 } sub SECURE_DATA() { 1 << 15 }

# dm-crypt by the device mapper's own calls: the key is drawn here, handed to the kernel and
# forgotten; it is in no file, no argument and no other process. Returns the device.
sub encrypted {
    my ($disk) = @_;
    my ($block) = $disk =~ m{([^/]+)\z};
    my $sectors = Kernel::slurp("/sys/class/block/$block/size");
    open my $mapper, '+<', '/dev/mapper/control' or die "there is no device mapper: $!\n";
    my $number = device_mapper($mapper, DM_CREATE, '');
    my $key = unpack 'H*', Kernel::random_bytes(64);
    # Without the kernel's queues between: a machine has few processors.
    my $options = '2 no_read_workqueue no_write_workqueue';
    my $table = pack 'Z*', "aes-xts-plain64 $key 0 $disk 0 $options";
    $table .= "\0" x (-length($table) % 8);
    device_mapper($mapper, DM_LOAD, pack('Q Q l L a16', 0, $sectors, 0, 0, 'crypt') . $table);
    substr $_, 0, length $_, "\0" x length $_ for $key, $table;
    device_mapper($mapper, DM_RESUME, '');
    return "/dev/dm-$number";
}

# One call about our device; returns its number.
sub device_mapper {
    my ($mapper, $command, $body) = @_;
    my $request = pack 'L3 L L L l L L L Q a128 a129 x7',
        4, 0, 0, 312 + length $body, 312, ($body ne '' ? 1 : 0), 0, SECURE_DATA, 0, 0, 0, 'scratch', '';
    $request .= $body;
    ioctl $mapper, 0xc138fd00 | $command, $request or die "the device mapper refused: $!\n";
    my $device = unpack 'x40 Q', $request;
    substr $request, 0, length $request, "\0" x length $request;
    return ($device & 0xff) | ($device >> 12 & 0xfff00);
}

# For kernels without dm-crypt: the files below /store are encrypted one by one; the overlay's upper
# layer is memory.
sub with_gocryptfs {
    my ($disk) = @_;
    Kernel::mount('scratch', '/scratch', 'tmpfs', 'nodev', 'size=50%,mode=755');
    Kernel::mount('run', '/base/run', 'tmpfs', 'nosuid,nodev', 'mode=755');
    mkdir "/base/run/$_" for qw(cipher store);
    on_disk($disk, '/base/run/cipher');
    rmdir '/base/run/cipher/lost+found';
    Kernel::spew('/base/run/password', unpack 'H*', Kernel::random_bytes(32));
    my @common = qw(-q -passfile /run/password);
    in_base('/usr/bin/gocryptfs', '-init', '-scryptn', '10', @common, '/run/cipher');
    in_base('/usr/bin/gocryptfs', '-allow_other', '-nosyslog', @common, '/run/cipher', '/run/store');
    unlink '/base/run/password';
    Kernel::mount('/base/run/store', '/store', '', 'bind');
    return;
}

1;
