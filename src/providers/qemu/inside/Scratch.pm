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
    unmap() if $kind ne 'dmcrypt';
    if ($kind eq 'tmpfs') { Kernel::mount('scratch', '/scratch', 'tmpfs', 'nodev', 'size=80%,mode=755') }
    if ($kind eq 'dmcrypt') { on_disk(encrypted(), '/scratch') }
    if ($kind eq 'plain') { on_disk($disk, '/scratch') }
    if ($kind eq 'gocryptfs') { return with_gocryptfs($disk) }
    mkdir '/scratch/store';
    Kernel::mount('/scratch/store', '/store', '', 'bind');
    return;
}

# What can be done before there is a program, and takes long: an empty file system for the disk, as
# the pieces of it that are not zero, and the encrypted device, still without a key.
my (@blank, $mapped);

sub prepare {
    my ($disk) = @_;
    return if !defined $disk;
    Kernel::mount('blank', '/base/run', 'tmpfs', 'nosuid,nodev', 'mode=755');
    open my $file, '>', '/base/run/blank' or die "no room for a file system: $!\n";
    truncate $file, 512 * sectors($disk) or die "no room for a file system: $!\n";
    close $file;
    in_base('/sbin/mke2fs', blank_options(), '/run/blank');
    @blank = pieces('/base/run/blank');
    Kernel::unmount('/base/run');
    $mapped = mapped_without_key($disk) if -e '/dev/mapper/control';
    return;
}

sub blank_options {
    return qw(-q -F -t ext4 -O ^has_journal,^resize_inode -m 0 -E nodiscard,lazy_itable_init=1);
}

sub sectors {
    my ($block) = $_[0] =~ m{([^/]+)\z};
    return Kernel::slurp("/sys/class/block/$block/size");
}

# What is written of a file with holes: [where, bytes], asked of the kernel by SEEK_DATA and SEEK_HOLE.
sub pieces {
    my ($path) = @_;
    open my $file, '<', $path or die "cannot read $path: $!\n";
    my ($at, @pieces) = (0);
    while (defined(my $from = sysseek $file, $at, 3)) {
        $at = sysseek $file, $from, 4;
        sysseek $file, $from, 0;
        my $got = sysread $file, my $bytes, $at - $from;
        die "cannot read $path: $!\n" if !defined $got || $got != $at - $from;
        push @pieces, [$from, $bytes];
    }
    return @pieces;
}

sub on_disk {
    my ($device, $where) = @_;
    write_pieces($device, @blank);
    undef @blank;
    Kernel::mount($device, $where, 'ext4', 'noatime', $ext4);
    return;
}

sub write_pieces {
    my ($path, @pieces) = @_;
    open my $disk, '+<', $path or die "cannot open $path: $!\n";
    for my $piece (@pieces) {
        my ($from, $bytes) = @$piece;
        sysseek $disk, $from, 0;
        my $sent = syswrite $disk, $bytes;
        die "cannot write to $path: $!\n" if !defined $sent || $sent != length $bytes;
    }
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

sub DM_CREATE() { 3 } sub DM_REMOVE() { 4 } sub DM_RESUME() { 6 } sub DM_LOAD() { 9 } sub DM_MESSAGE() { 14 }
sub SUSPEND() { 1 << 1 } sub SECURE_DATA() { 1 << 15 }

# dm-crypt by the device mapper's own calls. Setting the cipher up takes a key, and this one is no
# secret: so it is wiped at once, after which the kernel lets the device do nothing before it has
# another. Returns the device.
sub mapped_without_key {
    my ($disk) = @_;
    open my $mapper, '+<', '/dev/mapper/control' or die "there is no device mapper: $!\n";
    my $number = device_mapper($mapper, DM_CREATE, '');
    my $key = '00' x 32 . 'ff' x 32;
    # Without the kernel's queues between: a machine has few processors.
    my $options = '2 no_read_workqueue no_write_workqueue';
    my $table = pack 'Z*', "aes-xts-plain64 $key 0 $disk 0 $options";
    $table .= "\0" x (-length($table) % 8);
    device_mapper($mapper, DM_LOAD, pack('Q Q l L a16', 0, sectors($disk), 0, 0, 'crypt') . $table);
    device_mapper($mapper, DM_RESUME, '');
    device_mapper($mapper, DM_RESUME, '', SUSPEND);
    device_mapper($mapper, DM_MESSAGE, pack 'Q Z*', 0, 'key wipe');
    return "/dev/dm-$number";
}

# The key is drawn here, handed to the kernel and forgotten; it is in no file, no argument and no
# other process.
sub encrypted {
    open my $mapper, '+<', '/dev/mapper/control' or die "there is no device mapper: $!\n";
    my $message = pack 'Q Z*', 0, 'key set ' . unpack 'H*', Kernel::random_bytes(64);
    device_mapper($mapper, DM_MESSAGE, $message);
    substr $message, 0, length $message, "\0" x length $message;
    device_mapper($mapper, DM_RESUME, '');
    return $mapped;
}

# It holds the disk that something else is wanted on.
sub unmap {
    return if !defined $mapped;
    open my $mapper, '+<', '/dev/mapper/control' or die "there is no device mapper: $!\n";
    device_mapper($mapper, DM_REMOVE, '');
    return;
}

# One call about our device; returns its number.
sub device_mapper {
    my ($mapper, $command, $body, $flags) = @_;
    my $request = pack 'L3 L L L l L L L Q a128 a129 x7', 4, 0, 0, 312 + length $body, 312,
        ($body ne '' ? 1 : 0), 0, SECURE_DATA | ($flags // 0), 0, 0, 0, 'scratch', '';
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
