# The small process that stands over one machine: it starts QEMU, holds the host's end of the guest's
# channel, of QMP and of the console, joins the guest's streams to the guests' socket, and ends QEMU
# at the machine's deadline, at any breach of the protocol, and with itself. Perl, because it takes
# 4 MB and must work on when the manager is gone.
#
# Called as `perl keeper.pl FOLDER`, with the manager's pipe as stdin. It says one line on stdout:
# `started`, `taken` (another keeper has this machine), `over` (it ran already, was ended before QEMU
# was up, or may not start any more) or `failed WHY`. Below FOLDER it reads `command` (words, each
# ended by a NUL), `settings` (NAME=VALUE, the same) and `program` (JSON), and writes `pid` (its own,
# and since when), `ready` (what the guest said of itself), `given` (it got its program), `log` (the
# guest's words, 64 KiB), `console` (its last 64 KiB) and `end` (HOW CODE WORDS). With the setting
# `gate`, the path of `gate.pl`, the machine's network has one.
use strict;
use warnings;
use Fcntl qw(:flock F_DUPFD F_GETFL F_SETFL O_NONBLOCK);
use POSIX ();
use Socket;
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

use constant {
  READY => 1, OPEN => 2, DATA => 3, CLOSE => 4, CREDIT => 5, EXIT => 6, BEAT => 7, LOG => 8,
  PROGRAM => 10,
};
my $frame_max = 65_536;
my $words_max = 4_096;         # of READY and EXIT
my $credit = 262_144;         # of each stream, each way, at its start
my $streams_max = 128;
my $small = 1_024;             # a frame below this costs a token
my $tokens_each_second = 2_000;
my $log_max = 65_536;
my $queue_max = 1_048_576;     # bytes waiting for the guest to read them, beside the program
my $grace_seconds = 40;        # the inside keeps the deadline first, gently
my $flush_seconds = 2;
my $quit_seconds = 3;
my $panic_seconds = 1;

my ($folder) = @ARGV;
my (%set, %streams, $qemu, $gate, $up, $how, $quitting);
my ($channel, $qmp, $console, $errors, $sender);
my ($channel_in, $channel_out, $qmp_in, $console_tail, $errors_tail) = ('', '', '', '', '');
my ($phase, $stop, $log_room, $room, $sending) = ('boot', '', $log_max, $queue_max, '');
my ($tokens, $tokens_at) = (2 * $tokens_each_second, 0);
my ($boot_by, $end_by, $heard_at, $panic_by, $flush_by, $kill_by);

sub now { return clock_gettime(CLOCK_MONOTONIC) }

sub answer {
  print STDOUT "$_[0]\n";
  open(STDOUT, '>', '/dev/null');
}

sub slurp {
  open(my $file, '<', $_[0]) or return '';
  local $/;
  my $text = <$file>;
  return defined $text ? $text : '';
}

sub put {
  my ($name, $text) = @_;
  open(my $file, '>', "$name.new") or return;
  print $file $text;
  close($file) && rename("$name.new", $name);
}

sub plain {
  my ($text, $most) = @_;
  $text =~ s/[^\x20-\x7e]+/ /g;
  return substr($text, 0, $most);
}

# A pid alone may be used again by another process; a pid and its start may not.
sub since {
  my @fields = split ' ', (slurp('/proc/self/stat') =~ /\) (.*)/s)[0];
  chomp(my $boot = slurp('/proc/sys/kernel/random/boot_id'));
  return "$boot/$fields[19]";
}

sub unblock {
  my ($handle) = @_;
  fcntl($handle, F_SETFL, fcntl($handle, F_GETFL, 0) | O_NONBLOCK);
}

# --- QEMU ---------------------------------------------------------------------------------------

# The guest's channel is QEMU's descriptor 3, QMP 4, the console 5, and where its network has a gate,
# 6 is what goes to that and 7 what comes from it: pairs of sockets that nobody else can find, so that
# there is no file of theirs to leave behind.
sub start_qemu {
  my @ours;
  my @theirs;
  my $last = $set{gate} ? 4 : 2;
  for (0 .. $last) {
    socketpair($ours[$_], $theirs[$_], AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!\n";
  }
  pipe($errors, my $errors_end) or die "pipe: $!\n";
  my @command = split /\0/, slurp('command'), -1;
  pop @command;
  $qemu = fork;
  die "fork: $!\n" unless defined $qemu;
  if (!$qemu) {
    $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP PIPE CHLD);
    my @high = map { fcntl($_, F_DUPFD, 64) } @theirs;
    open(STDIN, '<', '/dev/null');
    POSIX::dup2(fileno($errors_end), $_) for 1, 2;
    POSIX::dup2($high[$_], $_ + 3) for 0 .. $last;
    POSIX::close($_) for @high;
    no warnings 'exec';
    exec { $command[0] } @command;
    print STDERR "$command[0]: $!\n";
    POSIX::_exit(127);
  }
  ($channel, $qmp, $console) = @ours;
  unblock($_) for $channel, $qmp, $console, $errors;
  start_gate(@ours[3, 4], $errors_end) if $set{gate};
}

# It ends when QEMU does. Until it runs, nothing of the guest's passes.
sub start_gate {
  my ($from, $to, $errors_end) = @_;
  $gate = fork;
  die "fork: $!\n" unless defined $gate;
  return if $gate;
  $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP PIPE CHLD);
  POSIX::dup2(fileno($from), 0);
  POSIX::dup2(fileno($to), 1);
  POSIX::dup2(fileno($errors_end), 2);
  no warnings 'exec';
  exec { $^X } $^X, $set{gate}, $set{reach};
  POSIX::_exit(127);
}

# What is sent is short and QEMU reads at once, so it never fills the socket.
sub command { syswrite($qmp, "$_[0]\n") if $qmp }

sub hear_qmp {
  return unless read_some(\$qmp, \$qmp_in);
  while ($qmp_in =~ s/^([^\n]*)\n//) { heed($1) }
  $qmp_in = '' if length $qmp_in > $frame_max;
}

sub heed {
  my ($line) = @_;
  if ($line =~ /^\{"QMP"/) {
    command('{"execute":"qmp_capabilities","id":"up"}');
  } elsif ($line =~ /"id": ?"up"/) {
    $up = 1;
    return restore() if $set{state};
    answer('started');
  } elsif ($line =~ /"id": ?"listening"/ && $line =~ /"return"/) {
    send_state();
  } elsif ($line =~ /"error": ?\{.*"desc": ?"(.*?)"/) {
    finish('qemu', '-', plain($1, 200)) unless $how;
  } elsif ($line =~ /"event": ?"GUEST_PANICKED"/) {
    finish('panic', '-', panic_words());
  } elsif ($line =~ /"event": ?"MIGRATION"/ && $line =~ /"status": ?"completed"/) {
    command('{"execute":"cont"}');
    answer('started');
    give_program();
  } elsif ($line =~ /"event": ?"SHUTDOWN"/ && !$how) {
    my ($why) = $line =~ /"reason": ?"([a-z-]+)"/;
    if ($why eq 'guest-reset' && $console_tail =~ /Kernel panic - not syncing/) {
      finish('panic', '-', panic_words());
    } else {
      my %words = ('guest-reset' => 'the guest restarted', 'guest-shutdown' => 'the guest powered off');
      finish('lost', '-', $words{$why} || "QEMU was stopped ($why)");
    }
  }
}

sub panic_words {
  my ($words) = $console_tail =~ /Kernel panic - not syncing: ([^\r\n]*)/;
  return defined $words ? plain($words, 200) : 'it does not say why';
}

# The memory comes from the template's file, copied on write; only the devices' state is read. QEMU
# may start no program to read it by, so it listens for it, and we send it.
sub restore {
  my @capabilities = map { qq({"capability":"$_","state":true}) } 'x-ignore-shared', 'events';
  my $list = join ',', @capabilities;
  command(qq({"execute":"migrate-set-capabilities","arguments":{"capabilities":[$list]}}));
  command('{"execute":"migrate-incoming","arguments":{"uri":"unix:state"},"id":"listening"}');
}

sub send_state {
  my $state = slurp($set{state});
  if ($state eq '' || !socket($sender, AF_UNIX, SOCK_STREAM, 0) || !connect($sender, pack_sockaddr_un('state'))) {
    return finish('qemu', '-', "the template's state cannot be handed over");
  }
  unlink 'state';
  unblock($sender);
  $sending = $state;
}

sub write_state {
  my $put = syswrite($sender, $sending, 262_144);
  return if !defined $put && ($!{EAGAIN} || $!{EINTR});
  substr($sending, 0, $put || length $sending, '');
  return if length $sending;
  close($sender);
  undef $sender;
}

# --- The end ------------------------------------------------------------------------------------

# HOW: exit (its program's), failed (it could not be run), deadline, panic, boot (it never was ready), protocol (it broke it),
# lost, stopped (we were asked to), qemu (which could not run it).
sub finish {
  my ($which, $code, $words) = @_;
  return if $how;
  $how = $which;
  put('end', "$which $code $words\n");
  $phase = 'end';
  $flush_by = now() + ($which eq 'exit' ? $flush_seconds : 0);
}

sub quit {
  $quitting = 1;
  command('{"execute":"quit"}');
  $kill_by = now() + $quit_seconds;
}

sub reap {
  # With QEMU it ends well.
  if ($gate && waitpid($gate, POSIX::WNOHANG()) == $gate) {
    undef $gate;
    finish('lost', '-', 'the gate of its network ended') if $?;
  }
  return 0 unless waitpid($qemu, POSIX::WNOHANG()) == $qemu;
  my $status = $?;
  # Its last words are still in the sockets.
  hear_console() while $console && readable($console);
  hear_qmp() while $qmp && readable($qmp);
  read_some(\$errors, \$errors_tail) while $errors && readable($errors);
  my $words = plain((split /\n/, $errors_tail)[-1] // 'it said nothing', 300);
  my $signal = $status & 127;
  finish($up ? 'lost' : 'qemu', '-', $signal ? "QEMU was killed by signal $signal" : "QEMU ended: $words");
  # One that was ended before it was up is a machine that is over, as its end says. A copy that does
  # not come up is its template's fault.
  answer($how eq 'qemu' || ($set{state} && $how eq 'boot') ? "failed $words" : 'over');
  return 1;
}

sub readable {
  my $set = '';
  vec($set, fileno($_[0]), 1) = 1;
  return select($set, undef, undef, 0) > 0;
}

# --- The channel --------------------------------------------------------------------------------

# False when there is nothing; what has ended is closed and undefined.
sub read_some {
  my ($handle, $buffer) = @_;
  my $got = sysread($$handle, $$buffer, 131_072, length $$buffer);
  return 1 if $got;
  return 0 if !defined $got && ($!{EAGAIN} || $!{EINTR});
  close($$handle);
  undef $$handle;
  return 0;
}

sub hear_console {
  read_some(\$console, \$console_tail) or return;
  # A kernel that is to restart after its panic may hang in that.
  $panic_by ||= now() + $panic_seconds if $console_tail =~ /Kernel panic - not syncing/;
  substr($console_tail, 0, -$log_max, '') if length $console_tail > 2 * $log_max;
}

sub send_frame {
  my ($type, $stream, $payload) = @_;
  $channel_out .= pack('C N N', $type, $stream, length $payload) . $payload;
}

sub give_program {
  return if $phase ne 'boot';
  put('given', '');
  my $program = slurp('program');
  unlink 'program'; # it may hold the job's credential
  my $time = sprintf '{"timeMs":%.0f,', 1_000 * Time::HiRes::time();
  substr($program, 0, 1, $time);
  $room += length $program;
  while (length $program > $frame_max) {
    send_frame(PROGRAM, 1, substr($program, 0, $frame_max, ''));
  }
  send_frame(PROGRAM, 0, $program);
  ($phase, $heard_at, $end_by) = ('run', now(), now() + $set{deadline} + $grace_seconds);
}

sub breach { finish('protocol', '-', $_[0]) }

sub hear_channel {
  return unless read_some(\$channel, \$channel_in);
  $heard_at = now();
}

# Frames that carry little cost a token each, so that a guest cannot keep us busy for nothing.
sub refill {
  my $now = now();
  $tokens += ($now - $tokens_at) * $tokens_each_second;
  $tokens = 2 * $tokens_each_second if $tokens > 2 * $tokens_each_second;
  $tokens_at = $now;
}

sub heed_frames {
  while (!$how && $tokens >= 1 && length $channel_in >= 9) {
    my ($type, $stream, $length) = unpack 'C N N', $channel_in;
    return breach("a frame of $length bytes") if $length > $frame_max;
    return breach("a frame of type $type") if $type < READY || $type > LOG;
    last if length $channel_in < 9 + $length;
    my $payload = substr($channel_in, 9, $length);
    substr($channel_in, 0, 9 + $length, '');
    $tokens -= 1 if $length < $small;
    heed_frame($type, $stream, $payload);
  }
}

sub heed_frame {
  my ($type, $id, $payload) = @_;
  if ($type == DATA || $type == CLOSE || $type == CREDIT) {
    my $stream = $streams{$id};
    # It may still say that the last of our data has arrived.
    return if !$stream && $type == CREDIT;
    return breach("a frame of no stream, $id") unless $stream;
    return take_data($id, $stream, $payload) if $type == DATA;
    return take_close($id, $stream) if $type == CLOSE;
    return breach('a credit of ' . length($payload) . ' bytes') if length $payload != 4;
    $stream->{credit} += unpack 'N', $payload;
    return breach('a credit beyond all bounds') if $stream->{credit} > 2**31;
  } elsif ($type == OPEN) {
    open_stream($id);
  } elsif ($type == READY) {
    return breach('READY twice') if $phase ne 'boot';
    return breach('a READY too long') if length $payload > $words_max;
    put('ready', $payload);
    give_program();
  } elsif ($type == EXIT) {
    return breach('EXIT before its program') if $phase ne 'run';
    take_exit($payload);
  } elsif ($type == LOG && $log_room > 0) {
    open(my $file, '>>', 'log') or return;
    print $file substr($payload, 0, $log_room);
    $log_room -= length $payload;
  }
}

sub take_exit {
  my ($payload) = @_;
  return breach('an EXIT too long') if length $payload > $words_max;
  my ($code, $signal) =
    map { $payload =~ /"$_"\s*:\s*(\d{1,3})\s*[,}]/ ? $1 : undef } 'exitCode', 'signal';
  my ($reason, $detail) =
    map { $payload =~ /"$_"\s*:\s*"((?:[^"\\]|\\.)*)"/ ? plain($1, 200) : '' } 'reason', 'detail';
  return breach('an EXIT that says nothing') if $reason eq '';
  $code = 128 + $signal if !defined $code && $signal;
  return finish('deadline', '-', 'out of time') if $reason eq 'deadline';
  return finish('failed', '-', $detail || $reason) if !defined $code || $code > 255;
  finish('exit', $code, $reason);
}

sub open_stream {
  my ($id) = @_;
  return breach('an OPEN before its program') if $phase ne 'run';
  return breach("stream $id is open") if $streams{$id};
  return breach("more than $streams_max streams") if keys %streams >= $streams_max;
  my $stream = $streams{$id} = { out => '', credit => $credit, owed => 0, allowed => $credit };
  if (socket(my $socket, AF_UNIX, SOCK_STREAM, 0)) {
    unblock($socket);
    return $stream->{socket} = $socket if connect($socket, pack_sockaddr_un($set{guest}));
  }
  drop_socket($id, $stream); # nobody listens just now: the guest's client tries again
}

sub take_data {
  my ($id, $stream, $payload) = @_;
  return breach("data after its CLOSE on stream $id") if $stream->{closed};
  $stream->{allowed} -= length $payload;
  return breach("more data than its credit on stream $id") if $stream->{allowed} < 0;
  if ($stream->{socket}) {
    $stream->{out} .= $payload;
  } else {
    grant($id, $stream, length $payload);
  }
}

sub grant {
  my ($id, $stream, $bytes) = @_;
  $stream->{owed} += $bytes;
  return if $stream->{owed} < $credit / 4;
  $stream->{allowed} += $stream->{owed};
  send_frame(CREDIT, $id, pack 'N', $stream->{owed}) unless $stream->{closed};
  $stream->{owed} = 0;
}

sub take_close {
  my ($id, $stream) = @_;
  return breach("CLOSE twice on stream $id") if $stream->{closed};
  $stream->{closed} = 1;
  settle($id, $stream);
}

# Passes on that a direction has ended, once all of it is through; forgets what is over.
sub settle {
  my ($id, $stream) = @_;
  if ($stream->{closed} && $stream->{socket} && $stream->{out} eq '') {
    shutdown($stream->{socket}, 1) unless $stream->{shut}++;
    drop_socket($id, $stream) if $stream->{said};
  }
  delete $streams{$id} if $stream->{closed} && $stream->{said} && !$stream->{socket};
}

sub drop_socket {
  my ($id, $stream) = @_;
  close(delete $stream->{socket}) if $stream->{socket};
  grant($id, $stream, length $stream->{out});
  $stream->{out} = '';
  send_frame(CLOSE, $id, '') unless $stream->{said}++;
  settle($id, $stream);
}

sub write_stream {
  my ($id, $stream) = @_;
  my $put = syswrite($stream->{socket}, $stream->{out}, $frame_max);
  if (!defined $put) {
    drop_socket($id, $stream) unless $!{EAGAIN} || $!{EINTR};
    return;
  }
  substr($stream->{out}, 0, $put, '');
  grant($id, $stream, $put);
  settle($id, $stream);
}

sub read_stream {
  my ($id, $stream) = @_;
  my $most = $stream->{credit} < $frame_max ? $stream->{credit} : $frame_max;
  my $got = sysread($stream->{socket}, my $data, $most);
  return if !defined $got && ($!{EAGAIN} || $!{EINTR});
  return drop_socket($id, $stream) unless defined $got;
  if ($got) {
    $stream->{credit} -= $got;
    return send_frame(DATA, $id, $data);
  }
  send_frame(CLOSE, $id, '') unless $stream->{said}++;
  settle($id, $stream);
}

sub write_channel {
  my $put = syswrite($channel, $channel_out, 262_144);
  substr($channel_out, 0, $put, '') if $put;
}

# --- The loop -----------------------------------------------------------------------------------

# One wait, and whatever it showed: the handles to read and to write, each with what to do.
sub turn {
  my (%read, %write);
  $read{fileno($qmp)} = \&hear_qmp if $qmp;
  $read{fileno($console)} = \&hear_console if $console;
  $read{fileno($errors)} = sub {
    read_some(\$errors, \$errors_tail);
    substr($errors_tail, 0, -4_096, '') if length $errors_tail > 8_192;
  } if $errors;
  $read{0} = sub { sysread(STDIN, my $none, 64) or finish('stopped', '-', 'its parent ended') }
    if $set{parent} && !$how;
  my $full = length $channel_out > $room;
  if ($channel) {
    $read{fileno($channel)} = \&hear_channel if !$full && $phase ne 'end' && length $channel_in < 9 + $frame_max;
    $write{fileno($channel)} = \&write_channel if length $channel_out;
  }
  $write{fileno($sender)} = \&write_state if $sender;
  for my $id (keys %streams) {
    my $stream = $streams{$id};
    my $socket = $stream->{socket} or next;
    my $wants = !$stream->{said} && $stream->{credit} > 0 && !$full;
    $read{fileno($socket)} = sub { read_stream($id, $stream) } if $wants;
    $write{fileno($socket)} = sub { write_stream($id, $stream) } if length $stream->{out};
  }
  my ($reads, $writes) = ('', '');
  vec($reads, $_, 1) = 1 for keys %read;
  vec($writes, $_, 1) = 1 for keys %write;
  my $found = select($reads, $writes, undef, $how || $tokens < 1 ? 0.02 : 1);
  return if $found <= 0;
  for my $number (keys %write) { $write{$number}->() if vec($writes, $number, 1) }
  for my $number (keys %read) {
    # A stream's write may just have closed its socket.
    $read{$number}->() if vec($reads, $number, 1) && alive($number);
  }
}

sub alive {
  my ($number) = @_;
  return 1 if $number == 0;
  my @handles = ($qmp, $console, $errors, $channel, map { $_->{socket} } values %streams);
  return scalar grep { defined $_ && fileno($_) == $number } @handles;
}

sub look_at_clock {
  my $now = now();
  finish('stopped', '-', 'asked to') if $stop;
  finish('boot', '-', "not ready after $set{boot} s") if $phase eq 'boot' && $now > $boot_by;
  finish('panic', '-', panic_words()) if $panic_by && $now > $panic_by;
  if ($phase eq 'run') {
    finish('deadline', '-', 'out of time; the guest did not end itself') if $now > $end_by;
    # While we do not read, because it said too much, it cannot be heard.
    finish('lost', '-', "not heard for $set{silence} s") if $now > $heard_at + $set{silence};
  }
  return unless $how;
  my $pending = grep { length $_->{out} } values %streams;
  quit() if !$quitting && (!$pending || $now > $flush_by);
  kill('KILL', $qemu) if $quitting && $now > $kill_by;
}

umask 077;
chdir($folder) or (answer('over'), exit 0);
open(my $lock, '>>', 'lock') or (answer('over'), exit 0);
flock($lock, LOCK_EX | LOCK_NB) or (answer('taken'), exit 0);
(answer('over'), exit 0) if -e 'pid' || -e 'stop';

$SIG{TERM} = $SIG{INT} = $SIG{HUP} = sub { $stop = 1 };
$SIG{PIPE} = 'IGNORE';
$SIG{CHLD} = sub { };
put('pid', "$$ " . since() . "\n");
# Whoever destroys says stop and then looks for the pid: one of us sees the other.
(answer('over'), exit 0) if -e 'stop';

%set = map { split /=/, $_, 2 } grep { length } split /\0/, slurp('settings');
$boot_by = now() + $set{boot};
$tokens_at = now();
eval { start_qemu(); 1 } or do {
  my $why = plain($@, 200);
  put('end', "qemu - $why\n");
  answer("failed $why");
  exit 0;
};
while (!reap()) {
  turn();
  refill();
  heed_frames();
  look_at_clock();
}
# It is over too, but for one that was stopped.
waitpid($gate, 0) if $gate && kill('KILL', $gate);
put('console', substr($console_tail, -$log_max)) if length $console_tail;
