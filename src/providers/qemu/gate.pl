# The way out of a machine for strangers' jobs. QEMU hands it each frame that the guest sends, before
# its user network sees it; what may pass is handed back, everything else is dropped. A frame is its
# length (u32, big-endian) and its bytes. Not what comes in: that only answers what went out.
#
# Called as `perl gate.pl ADDRESS[:PORT],...`, what the operator allows beside the public internet,
# with QEMU's frames as stdin and those for QEMU as stdout. It ends with QEMU. Without it nothing
# passes at all.
use strict;
use warnings;
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use Socket qw(AF_INET SOCK_DGRAM inet_pton pack_sockaddr_in);
use Errno qw(EADDRNOTAVAIL);

my $frame_max = 70_000;
my $waiting_max = 1_048_576;   # bytes that QEMU has not taken; what is beyond that is dropped
my $known_max = 65_536;

sub number { return unpack 'N', inet_pton(AF_INET, $_[0]) // die "no address: $_[0]\n" }

# The network that QEMU plays is never left through its own addresses, which lead to this host.
my @never = map { range($_) } qw(10.0.2.0/24 0.0.0.0/8 127.0.0.0/8 224.0.0.0/3);
# What RFC 6890 reserves beside that, and where clouds tell machines their secrets: most of them at
# 169.254.169.254, Alibaba's within 100.64.0.0/10, Oracle's within 192.0.0.0/24, Azure's by itself.
my @closed = map { range($_) } qw(
  10.0.0.0/8 100.64.0.0/10 168.63.129.16/32 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
  192.168.0.0/16 198.18.0.0/15
);
# By address: its ports, or 0 for all of them. The name server, which QEMU plays as well.
my %open = (number('10.0.2.3') => { 53 => 1 });
for (split /,/, $ARGV[0] // '') {
  my ($address, $port) = split /:/;
  die "$address is this host\n" if within(number($address), @never);
  $open{number($address)}{$port // 0} = 1;
}

sub range {
  my ($address, $bits) = split m{/}, $_[0];
  my $mask = 0xffffffff << (32 - $bits) & 0xffffffff;
  return [number($address) & $mask, $mask];
}

sub within {
  my ($address, @ranges) = @_;
  return scalar grep { ($address & $_->[1]) == $_->[0] } @ranges;
}

# An address of this host's, or one that a network of its broadcasts to, is one that can be bound.
# Asked of the kernel, because addresses come and go. Not knowing is no.
sub is_foreign {
  socket(my $socket, AF_INET, SOCK_DGRAM, 0) or return 0;
  return 0 if bind($socket, pack_sockaddr_in(0, pack 'N', $_[0]));
  return $!{EADDRNOTAVAIL};
}

# The ports of an address that are open, as a hash, with 0 for all of them; undef: none.
sub ports_of {
  my ($address) = @_;
  return { 0 => 1 } if !within($address, @never, @closed) && is_foreign($address);
  return $open{$address};
}

my (%known, $known_since);

# Plain IPv4 as the guest's kernel sends it: no options, no fragments, whose ports would be elsewhere
# or nowhere, and long enough to have ports. ARP is what the guest finds QEMU's addresses by.
sub passes {
  my ($frame) = @_;
  return 0 if length $frame < 42;
  my ($kind, $head, $length, $part, $protocol, $to, $port) = unpack 'x12 n C x n x2 n x C x6 N x2 n', $frame;
  return 1 if $kind == 0x0806;
  return 0 if $kind != 0x0800 || $head != 0x45 || $part & 0xbfff;
  return 0 if $length < 28 || $length > length($frame) - 14;
  %known = () if keys %known >= $known_max;
  my $ports = exists $known{$to} ? $known{$to} : ($known{$to} = ports_of($to)) or return 0;
  return 1 if $ports->{0};
  return ($protocol == 6 || $protocol == 17) && exists $ports->{$port};
}

sub fail {
  print STDERR "the gate of its network: $_[0]\n";
  exit 1;
}

fcntl(STDOUT, F_SETFL, fcntl(STDOUT, F_GETFL, 0) | O_NONBLOCK) or fail("fcntl: $!");
$SIG{PIPE} = 'IGNORE';
my ($in, $out) = ('', '');
for (;;) {
  my ($reads, $writes) = ('', '');
  vec($reads, 0, 1) = 1;
  vec($writes, 1, 1) = 1 if length $out;
  next if select($reads, $writes, undef, undef) < 0;
  if (vec($writes, 1, 1)) {
    my $put = syswrite(STDOUT, $out, 262_144);
    exit 0 if !defined $put && !$!{EAGAIN} && !$!{EINTR};
    substr($out, 0, $put // 0, '');
  }
  next unless vec($reads, 0, 1);
  my $got = sysread(STDIN, $in, 262_144, length $in);
  next if !defined $got && $!{EINTR};
  exit 0 unless $got;
  # The host's addresses may have changed.
  my $now = time;
  (%known, $known_since) = () if $now != ($known_since // 0);
  $known_since = $now;
  my $at = 0;
  while (length($in) - $at >= 4) {
    my $length = unpack 'N', substr($in, $at, 4);
    fail("a frame of $length bytes") if $length > $frame_max;
    last if length($in) - $at < 4 + $length;
    my $frame = substr($in, $at + 4, $length);
    $out .= pack('N', $length) . $frame if length $out < $waiting_max && passes($frame);
    $at += 4 + $length;
  }
  substr($in, 0, $at, '');
}
