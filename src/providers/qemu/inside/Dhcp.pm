# An address by DHCP (RFC 2131). Asked for by whole packets, since a card that has no address yet is
# given none that are meant for the address to come. Not renewed: the address is the instance's for life.
package Dhcp;
use strict;
use Kernel;
use Network;

sub PACKETS() { 17 } sub IP() { 0x0800 } sub UDP() { 17 }
sub DISCOVER() { 1 } sub OFFER() { 2 } sub REQUEST() { 3 } sub ACK() { 5 }
sub WAIT_MS() { 60_000 }
sub ROUND_MS() { 3_000 }
my $cookie = "\x63\x82\x53\x63";

# Returns address, netmask, gateway and dns, as Network::begin takes them. Dies when nobody answers.
sub lease {
    my ($card) = @_;
    Network::up($card);
    my ($index, $mac) = map { Kernel::slurp("/sys/class/net/$card/$_") } qw(ifindex address);
    $mac = pack 'H*', $mac =~ tr/://dr;
    socket my $socket, PACKETS, 2, unpack 'S', pack 'n', IP or die "no socket for packets: $!\n";
    bind $socket, link_address($index, $mac) or die "cannot bind to $card: $!\n";
    my $latest = Kernel::now_ms() + WAIT_MS;
    while (Kernel::now_ms() < $latest) {
        my $xid = Kernel::random_bytes(4);
        my $ask = sub {
            my ($options, $wanted) = @_;
            send $socket, packet(request($xid, $mac, $options)), 0, link_address($index, "\xff" x 6);
            return answer($socket, $xid, $wanted);
        };
        my $offer = $ask->(option(53, chr DISCOVER), OFFER) or next;
        my $options = option(53, chr REQUEST) . option(50, $offer->{address}) . option(54, $offer->{54} // '');
        my $given = $ask->($options, ACK) or next;
        return settings($given);
    }
    die "no DHCP server gave $card an address\n";
}

sub link_address { my ($index, $mac) = @_; return pack 'S n l S C C a8', PACKETS, IP, $index, 1, 0, 6, $mac }

sub option { my ($number, $value) = @_; return pack 'C C/a', $number, $value }

sub request {
    my ($xid, $mac, $options) = @_;
    # Netmask, routers, name servers.
    $options .= option(55, pack 'C*', 1, 3, 6) . "\xff";
    return pack 'C4 a4 n n x16 a16 x192 a4 a*', 1, 1, 6, 0, $xid, 0, 0x8000, $mac, $cookie, $options;
}

# A datagram from nobody to everybody, in IP.
sub packet {
    my ($payload) = @_;
    my $udp = pack('n4', 68, 67, 8 + length $payload, 0) . $payload;
    my $head = sub { pack 'C C n n n C C n a4 a4', 0x45, 0, 20 + length $udp, 0, 0, 64, UDP, $_[0], "\0" x 4, "\xff" x 4 };
    my $sum = 0;
    $sum += $_ for unpack 'n*', $head->(0);
    $sum = ($sum & 0xffff) + ($sum >> 16) for 1, 2;
    return $head->(~$sum & 0xffff) . $udp;
}

# The next answer of that type to us; nothing when none comes in time.
sub answer {
    my ($socket, $xid, $type) = @_;
    my $latest = Kernel::now_ms() + ROUND_MS;
    while ((my $left = $latest - Kernel::now_ms()) > 0) {
        my $reads = '';
        vec($reads, fileno $socket, 1) = 1;
        next if select($reads, undef, undef, $left / 1000) <= 0;
        defined recv $socket, my $bytes, 65_536, 0 or next;
        my $options = parse($bytes, $xid) or next;
        return $options if ord($options->{53} // "\0") == $type;
    }
    return;
}

# By number, and `address`: what is given. Nothing for any other packet.
sub parse {
    my ($bytes, $xid) = @_;
    return if length $bytes < 20 || ord(substr $bytes, 9, 1) != UDP;
    my $udp = substr $bytes, 4 * (ord($bytes) & 15);
    return if length $udp < 8 + 240 || unpack('x2 n', $udp) != 68;
    my ($kind, $id, $address, $mark, $rest) = unpack 'C x3 a4 x8 a4 x216 a4 a*', substr $udp, 8;
    return if $kind != 2 || $id ne $xid || $mark ne $cookie;
    my %options = (address => $address);
    while ($rest =~ /\G(?:\0*)([^\0\xff])/gcs) {
        my $number = ord $1;
        $rest =~ /\G(.)/gcs or last;
        my $length = ord $1;
        $options{$number} = substr $rest, pos $rest, $length;
        last if pos($rest) + $length > length $rest;
        pos($rest) += $length;
    }
    return \%options;
}

sub settings {
    my ($given) = @_;
    my $dotted = sub {
        my ($bytes) = @_;
        return defined $bytes && length $bytes >= 4 ? join '.', unpack 'C4', $bytes : undef;
    };
    return {
        address => $dotted->($given->{address}),
        netmask => $dotted->($given->{1}) // '255.255.255.255',
        gateway => $dotted->($given->{3}),
        dns => $dotted->($given->{6}),
    };
}

1;
