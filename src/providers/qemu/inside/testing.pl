#!/usr/bin/perl
# For the tests: what the first process does between READY and EXIT, as an ordinary process whose
# port is descriptor 3. `testing.pl FOLDER` works there; `testing.pl` alone reads a JSON document a
# line and writes it again.
use strict;
BEGIN { unshift @INC, __FILE__ =~ m{^(.*)/} ? $1 : '.' }
use Channel;
use Json;
use Relay;
use Task;

my $folder = shift;
if (!defined $folder) {
    $| = 1;
    while (my $line = <STDIN>) {
        chomp $line;
        my $value = eval { Json::decode($line) };
        print defined $value ? Json::encode($value) : Json::encode({ error => $@ }), "\n";
    }
    exit;
}
$SIG{PIPE} = 'IGNORE';
open my $port, '+<&=', 3 or die "no port: $!\n";
my $channel = Channel->new($port);
my $work = Task::receive($channel) or exit 3;
my $how = eval {
    Task::write_files("$folder/program", $work->{files});
    mkdir "$folder/work";
    Task::run($work, $channel, Relay->new($channel, "$folder/guest.sock"), "$folder/work");
} || { exitCode => undef, reason => 'error', detail => $@ };
$channel->send_frame(Channel::EXIT, 0, Json::encode($how));
$channel->flush while $channel->has_backlog;
