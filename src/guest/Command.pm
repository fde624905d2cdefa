# Runs the job's command to its end, whoever ends it.
package Command;
use strict;
use warnings;
use Errno qw(EAGAIN EINTR);
use POSIX ();
use Clock;
use Line;
use Loop;
use Output;
use Process;
use Wire;

use constant {
    GRACE_MS      => 10_000,       # from SIGTERM to SIGKILL
    DRAIN_MS      => 2_000,        # for what leftover children still print
    REPORT_MS     => 20_000,       # kept back before our own deadline to end the job and say so
    ORDER_SECONDS => 25,           # how long the manager may hold the question for orders
    PIPE_MAX      => 1024 * 1024,  # the most a pipe still holds when all writers are dead
};

# `work`: what the manager said; `places`: where to run it (`work`) and where its files are, if any
# (`files`); `seconds`: how long it may run; `output`;
# `orders`: a line of its own.
# Returns how it ended (exited, timed_out, cancelled, interrupted, error), its exit status, and a word on why.
sub run {
    my ($work, $places, $seconds, $output, $orders) = @_;
    my $folder = $places->{work};
    my ($command, $problem) = resolve([ map { placed($_, $work, $places) } @{ $work->{arg} || [] } ], $folder);
    return ('error', undef, $problem) if $problem;
    $output->note('$ ' . shell_words(@$command));
    my $self = bless {
        output => $output, orders => $orders, started => Clock::now_ms(), how => 'exited', why => '', pipes => {},
        more => Wire::first($work, 'more'), begins => Wire::first($work, 'begins'), tails => {},
    }, __PACKAGE__;
    my $said = $self->start($command, $folder, environment($work, $places));
    if ($said) {
        my $why = "cannot run $command->[0]: $said";
        $output->note($why);
        return ('exited', 127, $why);
    }
    $self->{limit} = $self->{started} + $seconds * 1000;
    my $latest = Loop::deadline() - REPORT_MS;
    $self->{limit} = $latest if $latest < $self->{limit};
    $self->step while !$self->is_over;
    $self->clean_up;
    return $self->result;
}

# Returns what went wrong, or nothing.
sub start {
    my ($self, $command, $folder, $environment) = @_;
    my %ends;
    for my $stream (qw(stdout stderr)) { pipe $self->{pipes}{$stream}, $ends{$stream} or return "no pipe: $!" }
    Line::set_nonblocking($_) for values %{ $self->{pipes} };
    my ($pid, $problem) = Process::start($command, %ends, folder => $folder, environment => $environment);
    return $problem if $problem;
    $self->{pid} = $Loop::job_group = $pid;
    return;
}

sub is_over {
    my ($self) = @_;
    return 0 if !defined $self->{status};
    return !%{ $self->{pipes} } || Clock::now_ms() >= $self->{drain_until};
}

sub step {
    my ($self) = @_;
    my $now = Clock::now_ms();
    if (!defined $self->{status}) {
        $self->listen;
        $self->decide($now);
        $self->reap($now);
    }
    my $look = $self->{output}->send;
    my $has_room = $self->{output}->has_room;
    # A manager that is slow must cost no output: the drain counts only while we can read.
    $self->{drain_until} = $now + DRAIN_MS if defined $self->{status} && !$has_room && !$self->{kill_at};

    my $until = $now + 60_000;
    for ($look, defined $self->{status} ? $self->{drain_until} : $self->{kill_at} // $self->{limit}) {
        $until = $_ if defined && $_ < $until;
    }
    my $pipes = $self->{pipes};
    my %ready = map { $_ => 1 } Loop::turn($until, $has_room ? values %$pipes : ());
    # In this order: what becomes readable in one moment cannot be told apart.
    for my $stream (grep { $pipes->{$_} && $ready{ $pipes->{$_} } } qw(stdout stderr)) {
        my $got = $self->read_pipe($stream);
        delete $pipes->{$stream} if defined $got && $got == 0;
    }
    return;
}

# Bytes read; 0 at the end; nothing when there is nothing now.
sub read_pipe {
    my ($self, $stream) = @_;
    my $got = sysread $self->{pipes}{$stream}, my $bytes, Output::FRAME_MAX;
    return $! == EAGAIN || $! == EINTR ? undef : 0 if !defined $got;
    return $got if !$got;
    $self->watch($stream, $bytes) if defined $self->{begins};
    $self->{output}->add($stream, $bytes);
    return $got;
}

# A forge's runner says in a line of its own that its job begins: the manager hears of it.
sub watch {
    my ($self, $stream, $bytes) = @_;
    my $text = ($self->{tails}{$stream} // '') . $bytes;
    if (index($text, $self->{begins}) >= 0) {
        $self->{output}->job_begins;
        undef $self->{begins};
        return;
    }
    my $keep = length($self->{begins}) - 1;
    $self->{tails}{$stream} = length $text > $keep ? substr $text, length($text) - $keep : $text;
    return;
}

# Keeps a question open that the manager answers when it wants the job to end.
sub listen {
    my ($self) = @_;
    my $line = $self->{orders};
    $self->{order} //= Output::order_in($line->answer) if $line->answer;
    $self->{order} //= $self->{output}->order;
    return if $self->{order} || !$line->is_idle;
    $line->ask(method => 'POST', path => 'orders?wait=' . ORDER_SECONDS, patience => (ORDER_SECONDS + 15) * 1000);
    return;
}

sub decide {
    my ($self, $now) = @_;
    if ($self->{kill_at}) {
        return if $now < $self->{kill_at};
        kill 'KILL', -$self->{pid};
        $self->{kill_at} = $now + 1000;
    }
    elsif ($Loop::told_to_stop) {
        $self->stop($Loop::told_to_stop eq 'USR1' ? ('interrupted', 'its machine is taken back') : ('error', 'the machine was told to stop'));
    }
    elsif ($self->{order}) { $self->stop(@{ $self->{order} }) }
    elsif ($now >= $self->{limit}) {
        $self->stop('timed_out', 'it ran longer than ' . int(($self->{limit} - $self->{started}) / 1000) . ' s');
    }
    return;
}

sub stop {
    my ($self, $how, $why) = @_;
    @$self{qw(how why kill_at)} = ($how, $why, Clock::now_ms() + GRACE_MS);
    $self->{output}->note("ending it: $why");
    kill 'TERM', -$self->{pid};
    return;
}

sub reap {
    my ($self, $now) = @_;
    return if waitpid($self->{pid}, POSIX::WNOHANG()) != $self->{pid};
    $self->{status} = $?;
    $self->{took} = $now - $self->{started};
    # Children that are cleaning up after SIGTERM have the rest of its grace.
    my $grace = ($self->{kill_at} // 0) - $now;
    $self->{drain_until} = $now + ($grace > DRAIN_MS ? $grace : DRAIN_MS);
    return;
}

sub clean_up {
    my ($self) = @_;
    # A step may have started what the steps after it need.
    if (!$self->{more} || $self->{how} ne 'exited') {
        kill 'KILL', -$self->{pid};
        Process::bury_leftovers();
    }
    # What they wrote before they died is still in the pipes.
    for my $stream (sort keys %{ $self->{pipes} }) {
        my $read = 0;
        while ($read < PIPE_MAX && (my $got = $self->read_pipe($stream))) { $read += $got }
    }
    $Loop::job_group = undef;
    return;
}

sub result {
    my ($self) = @_;
    return ($self->{how}, undef, $self->{why}) if $self->{how} ne 'exited';
    my $signal = $self->{status} & 127;
    my $code = $signal ? 128 + $signal : $self->{status} >> 8;
    my $took = sprintf 'after %.1f s', $self->{took} / 1000;
    my $word = $signal ? "ended by signal $signal" : "exit status $code";
    $self->{output}->note("$word $took");
    return ('exited', $code, $signal ? $word : '');
}

# `mayfly-shell` is our own way in for a person. `mayfly-target NAME` is run by the first of mk, make and npm that the repository has a file for.
# Returns the command, or nothing and the reason.
sub resolve {
    my ($command, $folder) = @_;
    return (undef, 'there is no command to run') if !@$command;
    return [ $^X, "$INC[0]/shell.pl", $ENV{MAYFLY_URL} ] if "@$command" eq 'mayfly-shell';
    return $command if @$command != 2 || $command->[0] ne 'mayfly-target';
    my $target = $command->[1];
    my $mk = '/usr/lib/plan9/bin/mk';
    return [ -x $mk ? $mk : 'mk', $target ] if -f "$folder/mkfile";
    for (qw(GNUmakefile makefile Makefile)) { return [ 'make', $target ] if -f "$folder/$_" }
    open my $file, '<', "$folder/package.json"
        or return (undef, "cannot tell how to run \"$target\": there is no mkfile, Makefile or package.json");
    read $file, my $text, 1024 * 1024;
    return [ 'npm', 'run', $target ] if $text =~ /"\Q$target\E"\s*:/;
    return (undef, "package.json has no script \"$target\"");
}

# Only what came with files may name places; a job's own words are its own.
sub placed {
    my ($word, $work, $places) = @_;
    return $word if !$work->{file};
    $word =~ s/\{(files|work)\}/$places->{$1}/g;
    return $word;
}

sub environment {
    my ($work, $places) = @_;
    my $folder = $places->{work};
    my $user = (getpwuid $<)[0] // 'mayfly';
    my %environment = (
        PATH => $ENV{PATH} || '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        HOME => $ENV{HOME} && -w $ENV{HOME} ? $ENV{HOME} : $folder,
        $ENV{TMPDIR} ? (TMPDIR => $ENV{TMPDIR}) : (),
        USER => $user, LOGNAME => $user, SHELL => '/bin/sh', LANG => 'C.UTF-8', PWD => $folder,
        CI => 'true', MAYFLY => 'true', MAYFLY_JOB => Wire::first($work, 'job'),
    );
    # Where the image keeps its forge's runner: its start script asks.
    my $runners = $ENV{MAYFLY_RUNNER_DIR};
    $environment{MAYFLY_RUNNER_DIR} = $runners if defined $runners && $work->{file};
    for (@{ $work->{env} || [] }) {
        $environment{$1} = placed("$2", $work, $places) if /^([A-Za-z_][A-Za-z0-9_]*)=(.*)$/s;
    }
    return \%environment;
}

# For reading: a person could paste it into a shell.
sub shell_words {
    return join ' ', map {
        my $word = $_;
        $word =~ s/'/'\\''/g;
        $word =~ m{^[A-Za-z0-9_.,:/=\@%+-]+$} ? $word : "'$word'"
    } @_;
}

1;
