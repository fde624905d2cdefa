# The program of a machine: its files, its process, and its end.
package Task;
use strict;
use Channel;
use Json;
use Kernel;
use Relay;

sub GRACE_MS() { 10_000 }    # between asking the program to end and making it
sub DRAIN_MS() { 10_000 }    # for what it sent to get out
sub BEAT_MS() { 5_000 }
sub PROGRAM_BYTES() { 64 * 1024 * 1024 }
sub LOG_BYTES() { 65_536 }    # of what the program itself prints

# Waits for what is to be run, however long that takes. Nothing: to be off again.
sub receive {
    my ($channel) = @_;
    my $json = '';
    while (1) {
        for my $frame (wait_for_frames($channel)) {
            my ($type, $more, $payload) = @$frame;
            return if $type == Channel::STOP;
            die "a frame of type $type came before the program\n" if $type != Channel::PROGRAM;
            $json .= $payload;
            die "the program is too large\n" if length $json > PROGRAM_BYTES;
            return Json::decode($json) if !$more;
        }
    }
}

sub wait_for_frames {
    my ($channel) = @_;
    # While nobody holds the other end, the port is always "ready": then it is asked every 20 ms.
    my $is_away = $channel->is_away;
    my ($reads, $writes) = ('', '');
    vec($reads, fileno $channel->handle, 1) = 1 if !$is_away;
    vec($writes, fileno $channel->handle, 1) = 1 if !$is_away && $channel->has_backlog;
    select $reads, $writes, undef, $is_away ? 0.02 : 60;
    my @frames = $channel->frames;
    $channel->flush if !$channel->is_away;
    return @frames;
}

# Writes the files below `folder`; their paths were checked by the host, and are again.
sub write_files {
    my ($folder, $files) = @_;
    make_folder($folder);
    for my $file (@$files) {
        my $path = $file->{path};
        die "a file's path is strange\n" if $path =~ m{\A/|\0|//|(?:\A|/)\.{1,2}(?:/|\z)|/\z} || $path eq '';
        make_folder("$folder/$1") if $path =~ m{\A(.*)/};
        open my $handle, '>', "$folder/$path" or die "cannot write $path: $!\n";
        chmod 0600, $handle;
        print $handle $file->{content};
        close $handle or die "cannot write $path: $!\n";
        chmod $file->{mode}, "$folder/$path";
    }
    return;
}

sub make_folder {
    my ($path) = @_;
    my $so_far = '';
    for my $part (split m{/}, $path) {
        $so_far .= "$part/";
        mkdir $so_far, 0755 if $so_far ne '/';
    }
    return;
}

# `work`: command, environment, deadlineSeconds. Runs it to its end in `folder`, relaying, and
# returns how it ended as EXIT has it.
sub run {
    my ($work, $channel, $relay, $folder) = @_;
    my $began = Kernel::now_ms();
    my $self = bless {
        channel => $channel, relay => $relay, next_beat => $began + BEAT_MS, logged => 0, end => undef,
        deadline => $began + 1000 * $work->{deadlineSeconds},
    }, 'Task';
    # A child's end only rings; select hears it, so that none is lost between a look and a sleep.
    pipe $self->{bell}, my $ring or die "no pipe: $!\n";
    Channel::set_nonblocking($_) for $self->{bell}, $ring;
    $SIG{CHLD} = sub { local $!; syswrite $ring, '.' };
    $self->start($work, $folder) or return { exitCode => undef, reason => 'error', detail => $self->{why} };
    $self->turn($self->{until} // $self->{deadline}) while !defined $self->{status} && $self->goes_on;
    # Whatever it left running ends with it, so that its connections do, too.
    kill 'KILL', -1 if $$ == 1;
    my $drained = Kernel::now_ms() + DRAIN_MS;
    $self->turn($drained)
        while Kernel::now_ms() < $drained && !$channel->is_away && ($self->{output} || $self->is_talking);
    my ($status, $reason) = ($self->{status} // 9, $self->{end} // 'exited');
    my $signal = $status & 127;
    return { exitCode => $signal ? undef : $status >> 8, signal => $signal || undef, reason => $reason };
}

# Streams whose near end still has something to say, or a far end that waits to hear it.
sub is_talking { return $_[0]{relay}->has_words || $_[0]{channel}->has_backlog }

# False when the program's processes would not even die.
sub goes_on {
    my ($self) = @_;
    my $now = Kernel::now_ms();
    $self->ask_to_end('deadline') if $now >= $self->{deadline} && !$self->{end};
    return 1 if !defined $self->{until} || $now < $self->{until};
    return 0 if $self->{is_killed};
    kill 'KILL', -$self->{pid};
    @$self{qw(is_killed until)} = (1, $now + GRACE_MS);
    return 1;
}

sub ask_to_end {
    my ($self, $reason) = @_;
    return if $self->{end};
    @$self{qw(end until)} = ($reason, Kernel::now_ms() + GRACE_MS);
    kill 'TERM', -$self->{pid};
    return;
}

sub start {
    my ($self, $work, $folder) = @_;
    pipe my $output, my $printed or die "no pipe: $!\n";
    pipe my $failed, my $fails or die "no pipe: $!\n";
    # Both ends are closed by exec: their numbers are above Perl's $^F.
    my $pid = fork // die "cannot fork: $!\n";
    if ($pid == 0) {
        become($work, $folder, $printed);
        syswrite $fails, "$!";
        kill 'KILL', $$;
    }
    close $printed;
    close $fails;
    sysread $failed, my $why, 500;
    if (length $why) {
        waitpid $pid, 0;
        $self->{why} = "$work->{command}[0] cannot be run: $why";
        return 0;
    }
    Channel::set_nonblocking($output);
    @$self{qw(pid output)} = ($pid, $output);
    return 1;
}

# Returns only when the command cannot be run, with `$!` saying why.
sub become {
    my ($work, $folder, $printed) = @_;
    Kernel::new_session();
    $SIG{$_} = 'DEFAULT' for qw(PIPE CHLD ALRM);
    alarm 0;
    open STDIN, '<', '/dev/null' or return;
    open STDOUT, '>&', $printed or return;
    open STDERR, '>&', $printed or return;
    %ENV = (PATH => '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME => '/root',
        %{ $work->{environment} });
    chdir $folder or return;
    my @command = @{ $work->{command} };
    exec { $command[0] } @command;
    return;
}

# Waits until `until` at most, and moves everything on.
sub turn {
    my ($self, $until) = @_;
    my ($channel, $relay, $output) = @$self{qw(channel relay output)};
    my $now = Kernel::now_ms();
    if ($now >= $self->{next_beat}) {
        $channel->send_frame(Channel::BEAT, 0, '');
        $self->{next_beat} = $now + BEAT_MS;
    }
    my ($reads, $writes) = ('', '');
    vec($reads, fileno $self->{bell}, 1) = 1;
    my $is_away = $channel->is_away;
    vec($reads, fileno $channel->handle, 1) = 1 if !$is_away;
    vec($writes, fileno $channel->handle, 1) = 1 if !$is_away && $channel->has_backlog;
    vec($reads, fileno $output, 1) = 1 if $output && !$channel->is_crowded;
    $relay->wants(\$reads, \$writes);
    $until = $self->{next_beat} if $self->{next_beat} < $until;
    # While nobody holds the other end, the port is always "ready".
    $until = $now + 20 if $is_away && $until > $now + 20;
    my $ready = select $reads, $writes, undef, $until > $now ? ($until - $now) / 1000 : 0;
    ($reads, $writes) = ('', '') if $ready <= 0;
    if (vec $reads, fileno $self->{bell}, 1) { sysread $self->{bell}, my $rung, 4096 }
    $self->reap;
    $self->hear($channel->frames) if $is_away || vec $reads, fileno $channel->handle, 1;
    $relay->turn($reads, $writes);
    $self->log_output if $output && vec $reads, fileno $output, 1;
    $channel->flush;
    return;
}

sub hear {
    my ($self, @frames) = @_;
    for my $frame (@frames) {
        my ($type, $stream, $payload) = @$frame;
        if ($type == Channel::STOP) { $self->ask_to_end('ended') }
        elsif ($type >= Channel::DATA && $type <= Channel::CREDIT) { $self->{relay}->hear(@$frame) }
        else { die "the host sent a frame of type $type\n" }
    }
    return;
}

sub reap {
    my ($self) = @_;
    while ((my $pid = waitpid -1, 1) > 0) {
        $self->{status} = $? if $pid == $self->{pid};
    }
    return;
}

sub log_output {
    my ($self) = @_;
    my $got = sysread $self->{output}, my $bytes, 16_384;
    return if !defined $got && $! == 11;
    if (!$got) { delete $self->{output}; return }
    my $left = LOG_BYTES - $self->{logged};
    return if $left < 0;
    $self->{logged} += $got;
    $bytes = substr($bytes, 0, $left) . "\n[it prints more than is kept]\n" if $got > $left;
    $self->{channel}->send_frame(Channel::LOG, 0, $bytes);
    return;
}

1;
