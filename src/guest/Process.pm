# Starting processes, and ending what they leave behind.
package Process;
use strict;
use warnings;
use Errno qw(EINTR);
use POSIX ();
use Clock;

# Children of ours that belong to no job: TLS tunnels.
our %helpers;

my %prctl =
    (x86_64 => 157, aarch64 => 167, riscv64 => 167, loongarch64 => 167, s390x => 172, ppc64le => 171);
my $prctl = $Clock::is_linux64 ? $prctl{$Clock::machine} : undef;
use constant { PR_SET_PDEATHSIG => 1, PR_SET_CHILD_SUBREAPER => 36 };

# Whoever loses its parent becomes our child, so that we can end it. Linux only.
sub adopt_orphans { syscall $prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0 if defined $prctl }

# Starts a command in a session, and so a process group, of its own. `how`: stdin, stdout, stderr
# (handles; /dev/null otherwise), folder, environment. Returns its pid, or nothing and the reason.
sub start {
    my ($command, %how) = @_;
    pipe my $failed, my $fails or return (undef, "$!");
    my $pid = fork;
    return (undef, "$!") if !defined $pid;
    if ($pid == 0) {
        become($command, %how);
        syswrite $fails, "$!";
        POSIX::_exit(127);
    }
    close $fails;
    my $reason = '';
    while (1) {
        my $got = sysread $failed, $reason, 1024, length $reason;
        last if defined $got ? $got == 0 : $! != EINTR;
    }
    return $pid if $reason eq '';
    waitpid $pid, 0;
    return (undef, $reason);
}

# Returns only when the command cannot be run, with `$!` saying why.
sub become {
    my ($command, %how) = @_;
    POSIX::setsid();
    # A guest that is killed takes its job along.
    syscall $prctl, PR_SET_PDEATHSIG, POSIX::SIGKILL(), 0, 0, 0 if defined $prctl;
    alarm 0;
    $SIG{$_} = 'DEFAULT' for qw(PIPE CHLD TERM INT HUP ALRM);
    open my $null, '+<', '/dev/null' or return;
    my @handles = map { $how{$_} // $null } qw(stdin stdout stderr);
    for (0 .. 2) { defined POSIX::dup2(fileno $handles[$_], $_) or return }
    %ENV = %{ $how{environment} } if $how{environment};
    chdir $how{folder} or return if defined $how{folder};
    no warnings 'exec';
    exec { $command->[0] } @$command;
    return;
}

# Kills every process that the job left, wherever it hid. Linux only.
sub bury_leftovers {
    my $until = Clock::now_ms() + 2_000;
    while (Clock::now_ms() < $until) {
        my @left = grep { !$helpers{$_} } children();
        last if !@left;
        kill 'KILL', @left;
        for (@left) { waitpid $_, POSIX::WNOHANG() }
        select undef, undef, undef, 0.01;
    }
    return;
}

sub children {
    opendir my $proc, '/proc' or return;
    my @found;
    for my $pid (grep { /^\d+$/ } readdir $proc) {
        open my $stat, '<', "/proc/$pid/stat" or next;
        my $line = <$stat> // next;
        push @found, $pid if $line =~ /^.*\) \S (\d+)/s && $1 == $$;
    }
    return @found;
}

1;
