#!/usr/bin/perl
# A provider in 30 lines: each machine is a process group, and a folder that knows it. See docs/providers/exec.md.
use strict; use warnings; use JSON::PP; use File::Basename; use File::Path qw(make_path remove_tree);
my ($machines, $guest); $| = 1; $SIG{CHLD} = 'IGNORE';
my $x64 = `uname -m` =~ /x86_64/ ? 'x64' : 'arm64';
my %lends = (architectures => [$x64], accepts => ['trusted'], channel => 'socket', labels => ['example'],
  maximum => {cpu => 8, memoryMb => 8192, diskGb => 100, gpu => 0, architecture => $x64});
sub get { open(my $file, '<', $_[0]) or return; local $/; return scalar <$file> }
sub put { my ($path, $text) = @_; make_path(dirname $path); open(my $file, '>', "$path.new") or die "$path: $!"; utf8::encode($text); print $file $text; close $file; rename "$path.new", $path }
sub lives { my $pid = get("$_[0]/pid"); return $pid && kill(0, -$pid) && $pid }
sub machine { my $dir = "$machines/$_[0]"; my $exit = get("$dir/exit");
  return {name => $_[0], handle => $dir, state => !defined $exit && lives($dir) ? 'running' : 'ended',
    createdAt => 1000 * (stat "$dir/program")[9], exitCode => defined $exit ? 0 + $exit : undef} }
sub run { my ($dir, $program) = @_; my %declared = %{$program->{environment}}; open(STDIN, '<', '/dev/null'); open(STDOUT, '>', '/dev/null');
  my $place = sub { map { s/\{program\}/$dir\/program/gr =~ s/\{guest\}/$guest/gr } map { utf8::encode($_); $_ } my @copy = @_ };
  setpgrp; chdir $dir; %ENV = (PATH => $ENV{PATH}, map { $_ => $place->($declared{$_}) } keys %declared); $SIG{CHLD} = 'DEFAULT';
  my $status = system('timeout', '--foreground', '-s', 'KILL', $program->{deadlineSeconds}, $place->(@{$program->{command}}));
  put("$dir/exit", $status & 127 ? 128 + ($status & 127) : $status >> 8); kill KILL => -$$ }
my %do = (
  hello => sub { $guest = "$_[0]{guestFolder}/guest.sock"; make_path($machines = "$_[0]{folder}/machines"); return {protocol => 1, capabilities => \%lends} },
  check => sub { my $ok = -x '/usr/bin/timeout'; [{name => 'timeout', ok => $ok ? JSON::PP::true : JSON::PP::false, detail => '/usr/bin/timeout', mend => $ok ? undef : 'apt-get install coreutils'}] },
  list => sub { opendir(my $dir, $machines); return [map { machine($_) } grep { !/^\./ } readdir $dir] },
  create => sub { my ($name, $program) = ($_[0]{spec}{name}, $_[0]{program}); my $dir = "$machines/$name"; mkdir $dir or return machine($name);
    make_path("$dir/program"); for (@{$program->{files}}) { put("$dir/program/$_->{path}", $_->{content}); chmod $_->{mode}, "$dir/program/$_->{path}" }
    my $pid = fork // die "fork: $!"; run($dir, $program) if !$pid; setpgrp($pid, $pid); put("$dir/pid", $pid); return machine($name) },
  destroy => sub { my $dir = "$machines/$_[0]{name}"; if (my $pid = lives($dir)) { kill KILL => -$pid; return 'ending' } remove_tree($dir); return 'gone' });
while (my $line = <STDIN>) { my $ask = decode_json($line); my $act = $do{$ask->{method}} or next; my $result = eval { $act->($ask->{params}) };
  print encode_json({id => $ask->{id}, $@ ? (error => {kind => 'unreachable', message => "$@"}) : (result => $result)}), "\n" }
