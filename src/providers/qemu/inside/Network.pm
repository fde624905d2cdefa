# The machine's network, given its addresses by the host: no process, no DHCP.
package Network;
use strict;
use Kernel;

sub SIOCADDRT() { 0x890b } sub SIOCSIFFLAGS() { 0x8914 } sub SIOCSIFADDR() { 0x8916 } sub SIOCSIFNETMASK() { 0x891c }
sub UP_AND_RUNNING() { 0x41 }

sub loopback { return up('lo') }

# The first network card that is none of the kernel's own.
sub card {
    my ($card) = grep { -e "/sys/class/net/$_/device" } Kernel::names('/sys/class/net');
    return $card;
}

sub up { my ($card) = @_; with_socket(sub { set($_[0], $card, SIOCSIFFLAGS, pack 's', UP_AND_RUNNING) }); return }

# `address`, `netmask`, `gateway`, `dns`: dotted.
sub begin {
    my ($settings, $root) = @_;
    my $card = card();
    die "the machine has no network card\n" if !defined $card;
    with_socket(sub {
        my ($socket) = @_;
        set($socket, $card, SIOCSIFADDR, internet($settings->{address}));
        set($socket, $card, SIOCSIFNETMASK, internet($settings->{netmask}));
        set($socket, $card, SIOCSIFFLAGS, pack 's', UP_AND_RUNNING);
        return if !defined $settings->{gateway};
        my $any = internet('0.0.0.0');
        my $route = pack 'x8 a16 a16 a16 S', $any, internet($settings->{gateway}), $any, 3;
        ioctl $socket, SIOCADDRT, $route . "\0" x 64 or die "no route: $!\n";
    });
    Kernel::spew("$root/etc/resolv.conf", "nameserver $settings->{dns}\n") if defined $settings->{dns};
    return;
}

sub with_socket {
    my ($use) = @_;
    socket my $socket, 2, 2, 0 or die "no internet socket: $!\n";
    $use->($socket);
    return;
}

sub set {
    my ($socket, $card, $call, $value) = @_;
    my $request = pack 'a16 a24', $card, $value;
    ioctl $socket, $call, $request or die "$card: $!\n";
    return;
}

sub internet {
    my ($dotted) = @_;
    my @parts = $dotted =~ /\A(\d+)\.(\d+)\.(\d+)\.(\d+)\z/ or die "no address: $dotted\n";
    return pack 'S n C4 x8', 2, 0, @parts;
}

1;
