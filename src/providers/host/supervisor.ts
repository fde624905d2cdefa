/**
 * The small process that stands over one machine: it starts the program, ends it at its deadline
 * and ends all that the program left behind. Perl, because that is on every Debian and every Mac,
 * and because it must work on when the manager is gone.
 *
 * Called as `perl supervise.pl FOLDER SECONDS`. It says one line on stdout: `started`, `taken`
 * (another one has this machine), `over` (it ran already, or may not start any more) or `failed
 * WHY`. Below FOLDER it reads `command` and `environment` (words, each ended by a NUL), and writes
 * `pid` (its own, and since when), `output` (the first 64 KiB the program wrote) and `exit`.
 */
export const supervisorScript = String.raw`use strict;
use warnings;
use Fcntl qw(:flock);
use POSIX qw(:sys_wait_h);
use Time::HiRes qw(setitimer ITIMER_REAL);

my ($folder, $seconds) = @ARGV;
my $linux = $^O eq 'linux';
my ($stop, $waiting) = ('', 0);

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
  open(my $file, '>', "$folder/$name.new") or die "$name: $!\n";
  print $file $text;
  close($file) or die "$name: $!\n";
  rename("$folder/$name.new", "$folder/$name") or die "$name: $!\n";
}

# A pid alone may be used again by another process; a pid and its start may not.
sub since {
  return join ' ', split ' ', ${"`ps -o lstart= -p $$`"} unless $linux;
  my @fields = split ' ', (slurp('/proc/self/stat') =~ /\) (.*)/s)[0];
  chomp(my $boot = slurp('/proc/sys/kernel/random/boot_id'));
  return "$boot/$fields[19]";
}

# What leaves our tree by a double fork comes back to us instead of to init: prctl(36), by number,
# since not every Perl has the kernel's headers.
sub adopt_orphans {
  my %numbers = (x86_64 => 157, aarch64 => 167, riscv64 => 167, armv7l => 172, i686 => 172);
  my $number = $numbers{(POSIX::uname())[4]};
  syscall($number, 36, 1, 0, 0, 0) if $linux && defined $number;
}

sub descendants {
  my (%children, @found);
  my @lines;
  if ($linux) {
    opendir(my $proc, '/proc') or return;
    @lines = map { slurp("/proc/$_/stat") } grep { /^\d+$/ } readdir($proc);
    @lines = map { /^(\d+) .*\) \S (\d+)/s ? "$1 $2" : () } @lines;
  } else {
    @lines = ${"`ps -axo pid=,ppid=`"};
  }
  for (@lines) { push @{$children{$2}}, $1 if /(\d+) +(\d+)/ }
  my @next = ($$);
  while (defined(my $pid = shift @next)) {
    push @found, @{$children{$pid} || []};
    push @next, @{delete $children{$pid} || []};
  }
  return @found;
}

sub end_all_but {
  my ($spared) = @_;
  for my $try (1 .. 500) {
    my @left = grep { $_ != $spared } descendants();
    return unless @left;
    kill 'STOP', @left if $try == 1; # so that none forks while we look
    kill 'KILL', @left;
    while (waitpid(-1, WNOHANG) > 0) { }
    select(undef, undef, undef, 0.01);
  }
}

sub interrupted {
  $stop ||= $_[0];
  die "stop\n" if $waiting;
}

# Reads all that the program writes, so that it never blocks, and keeps the beginning.
sub keep_output {
  my ($pipe) = @_;
  $SIG{TERM} = $SIG{INT} = $SIG{HUP} = 'IGNORE';
  my $room = 65536;
  open(my $file, '>', "$folder/output");
  while (sysread($pipe, my $text, 65536)) {
    syswrite($file, substr($text, 0, $room)) if $file && $room > 0;
    $room -= length $text;
  }
  POSIX::_exit(0);
}

sub run_program {
  my ($output, $failure) = @_;
  my @command = split /\0/, slurp("$folder/command"), -1;
  pop @command;
  %ENV = map { split /=/, $_, 2 } grep { length } split /\0/, slurp("$folder/environment");
  $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP ALRM PIPE);
  POSIX::setsid();
  umask 022;
  open(STDIN, '<', '/dev/null');
  open(STDERR, '>&', $output);
  open(STDOUT, '>&', $output);
  no warnings 'exec';
  exec { $command[0] } @command if chdir("$folder/home");
  syswrite($failure, "$!");
  POSIX::_exit(127);
}

umask 077;
open(my $lock, '>>', "$folder/lock") or (answer("over"), exit 0);
flock($lock, LOCK_EX | LOCK_NB) or (answer("taken"), exit 0);
(answer("over"), exit 0) if -e "$folder/pid" || -e "$folder/stop";

$SIG{TERM} = $SIG{INT} = $SIG{HUP} = sub { interrupted('asked') };
$SIG{ALRM} = sub { interrupted('deadline') };
$SIG{PIPE} = 'IGNORE';
adopt_orphans();
put('pid', "$$ " . since() . "\n");
# Whoever destroys says stop and then looks for the pid: one of us sees the other.
(answer("over"), exit 0) if -e "$folder/stop";

pipe(my $output_read, my $output_write) or die;
pipe(my $failure_read, my $failure_write) or die;
my $keeper = fork;
if (defined $keeper && !$keeper) {
  close($output_write);
  close($failure_write);
  close(STDOUT);
  keep_output($output_read);
}
my $child = fork;
if (defined $child && !$child) { run_program($output_write, $failure_write) }
close($output_write);
close($failure_write);

my $status;
if (!defined $child) {
  answer("failed $!");
} else {
  sysread($failure_read, my $why, 1000); # ends at the exec, which closes the pipe
  answer($why ? "failed $why" : 'started');
  # Again each second: a signal just before the wait begins would be seen only after it.
  setitimer(ITIMER_REAL, $seconds, 1);
  eval {
    $waiting = 1;
    die "stop\n" if $stop;
    while ((my $pid = waitpid(-1, 0)) > 0) {
      if ($pid == $child) { $status = $?; last }
    }
  };
  $waiting = 0;
  setitimer(ITIMER_REAL, 0);
}

end_all_but($keeper || -1);
if ($keeper) { # all writers are gone, so it ends now
  local $SIG{ALRM} = sub { kill 'KILL', $keeper };
  setitimer(ITIMER_REAL, 10, 1);
  waitpid($keeper, 0);
  setitimer(ITIMER_REAL, 0);
}
my $code = !defined $status ? '-' : $status & 127 ? 128 + ($status & 127) : $status >> 8;
put('exit', "$code\n");
`;
