# The one place that waits: lines to the manager, the job's pipes, signals and deadlines.
package Loop;
use strict;
use warnings;
use POSIX ();
use Clock;
use Line;

our $told_to_stop;    # the signal that asked us to end
our $job_group;       # the process group that ends with us
my ($deadline, @lines, $bell, $ring);

# Starts the loop's life of `seconds`, after which this process and its job end, whatever happens.
sub begin {
    my ($seconds, @ours) = @_;
    @lines = @ours;
    pipe $bell, $ring or die "no pipe: $!\n";
    Line::set_nonblocking($_) for $bell, $ring;
    # A signal only rings; select hears it, so that none is lost between a look and a sleep.
    $SIG{PIPE} = 'IGNORE';
    $SIG{CHLD} = sub { local $!; syswrite $ring, '.' };
    # USR1: the machine's provider takes it back.
    $SIG{$_} = sub { local $!; $told_to_stop ||= $_[0]; syswrite $ring, '.' } for qw(TERM INT USR1);
    # Should anything block the loop itself.
    $SIG{ALRM} = \&end_at_deadline;
    end_within($seconds);
    return;
}

sub end_within {
    my ($seconds) = @_;
    $deadline = Clock::now_ms() + $seconds * 1000;
    alarm $seconds + 5;
    return;
}

sub deadline { return $deadline }

sub end_at_deadline {
    kill 'KILL', -$job_group if $job_group;
    print STDERR "mayfly-guest: the deadline has passed\n";
    POSIX::_exit(1);
}

# Waits until `until` (ms) at most, moves every line on, and returns which of the pipes can be read.
sub turn {
    my ($until, @pipes) = @_;
    my $now = Clock::now_ms();
    end_at_deadline() if $now >= $deadline;
    $until = $deadline if $deadline < $until;
    for my $line (@lines) {
        $line->tick($now);
        my $due = $line->due;
        $until = $due if defined $due && $due < $until;
    }
    my ($reads, $writes) = ('', '');
    vec($reads, fileno $_, 1) = 1 for $bell, @pipes;
    for my $line (@lines) {
        vec($reads, fileno $line->handle, 1) = 1 if $line->wants_read;
        vec($writes, fileno $line->handle, 1) = 1 if $line->wants_write;
    }
    my $ready = select $reads, $writes, undef, $until > $now ? ($until - $now) / 1000 : 0;
    return if $ready <= 0;
    if (vec $reads, fileno $bell, 1) { sysread $bell, my $rung, 4096 }
    for my $line (@lines) {
        my $number = $line->handle ? fileno $line->handle : next;
        $line->on_writable if vec $writes, $number, 1;
        $line->on_readable if vec($reads, $number, 1) && $line->handle;
    }
    return grep { vec $reads, fileno $_, 1 } @pipes;
}

# Asks and waits for the answer. Nothing: we were told to stop, or `within` (ms) has passed.
sub call {
    my ($line, %question) = @_;
    my $latest = defined $question{within} ? Clock::now_ms() + $question{within} : $deadline;
    $line->ask(%question);
    while (!$line->answer) {
        return if Clock::now_ms() >= $latest || ($told_to_stop && !$question{even_if_stopped});
        turn($latest);
    }
    return $line->answer;
}

1;
