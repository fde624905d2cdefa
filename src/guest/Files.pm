# The job's folder: its source in, its artifacts out.
package Files;
use strict;
use warnings;
use Cwd ();
use Errno qw(EINTR);
use Fcntl qw(O_RDONLY O_WRONLY O_CREAT O_EXCL O_NOFOLLOW O_NONBLOCK S_ISREG S_ISDIR S_ISLNK);
use Clock;
use Loop;
use Process;
use Wire;

use constant {
    REFUSED_MS => 30_000,            # the manager's disk may be full only for the moment
    REPORT_MS  => 20_000,            # what a job's end needs in any case
    SOURCE_PATIENCE_MS => 600_000,   # the manager may have to fetch it first
    FILES_MAX          => 1_000,
    WALK_MAX           => 200_000,
};

# A fresh folder, where there is room for one; or nothing.
sub make_folder {
    for my $base (grep { defined && $_ ne '/' && -d && -w } $ENV{MAYFLY_WORK}, Cwd::getcwd(), '/work', '/var/tmp', '/tmp') {
        for my $name ('job', "job-$$") { return "$base/$name" if mkdir "$base/$name", 0755 }
    }
    return;
}

# Writes what the work needs besides, each "MODE PATH\nCONTENT", into a folder beside the work's own.
# Returns that folder; or nothing, when something cannot be written.
sub write_files {
    my ($files, $beside) = @_;
    my $folder = "$beside.files";
    mkdir $folder, 0700 or return;
    for (@$files) {
        my ($mode, $path, $content) = m{^([0-7]{3}) ([A-Za-z0-9_-][A-Za-z0-9._-]*)\n(.*)$}s or return;
        sysopen my $file, "$folder/$path", O_WRONLY | O_CREAT | O_EXCL, oct $mode or return;
        print $file $content or return;
        close $file or return;
    }
    return $folder;
}

# Unpacks the source while it comes. Returns what went wrong, or nothing.
sub unpack_source {
    my ($line, $folder) = @_;
    my $tar = {};
    my $answer = Loop::call(
        $line,
        method => 'GET', path => 'source', patience => SOURCE_PATIENCE_MS,
        begin => sub {
            # Asked again: what a cut connection left half unpacked goes first.
            if ($tar->{pid}) {
                end_tar($tar);
                system 'rm', '-rf', '--', $folder;
                mkdir $folder, 0755;
            }
            $tar = start_tar($folder);
        },
        into => sub { feed_tar($tar, $_[0]) },
    );
    my $status = end_tar($tar);
    return 'the machine was told to stop' if !$answer;
    return 'no source: ' . Wire::refusal($answer) if $answer->{status} != 200;
    return if $status == 0 && !$tar->{problem};
    my $said = '';
    if ($tar->{errors}) {
        seek $tar->{errors}, 0, 0;
        read $tar->{errors}, $said, 1000;
    }
    return 'the source cannot be unpacked: ' . ($said =~ /\S/ ? $said : $tar->{problem} // "tar ended with $status");
}

sub start_tar {
    my ($folder) = @_;
    open my $errors, '+>', undef;
    pipe my $read, my $write or return { problem => "no pipe: $!" };
    my ($pid, $problem) =
        Process::start([qw(tar -x -o -f - -C), $folder], stdin => $read, stderr => $errors);
    $Loop::job_group = $pid;
    return { pid => $pid, pipe => $write, errors => $errors, problem => $problem };
}

# Blocks while tar is busy; the alarm at the deadline holds.
sub feed_tar {
    my ($tar, $bytes) = @_;
    my $at = 0;
    while (!$tar->{problem} && $at < length $bytes) {
        my $put = syswrite $tar->{pipe}, $bytes, length($bytes) - $at, $at;
        if (defined $put) { $at += $put }
        elsif ($! != EINTR) { $tar->{problem} = "tar: $!" }
    }
    return;
}

sub end_tar {
    my ($tar) = @_;
    close delete $tar->{pipe} if $tar->{pipe};
    return 0 if !$tar->{pid};
    waitpid $tar->{pid}, 0;
    $Loop::job_group = undef;
    return $?;
}

# Sends what the patterns of `work` mean. What cannot be sent is said and left behind.
sub send_artifacts {
    my ($line, $work, $folder, $output) = @_;
    my $budget = WALK_MAX;
    my %seen;
    my $patience = REFUSED_MS;
    for my $pattern (@{ $work->{artifact} || [] }) {
        my @paths = find_files($folder, $pattern, \$budget);
        $output->note("no file matches $pattern") if !@paths;
        for my $path (grep { !$seen{$_}++ } @paths) {
            if (keys %seen > FILES_MAX) { return $output->note('only the first ' . FILES_MAX . ' artifacts are taken') }
            my $problem = send_file($line, $folder, $path, $patience);
            if ($problem) {
                $output->note("artifact $path is left behind: $problem");
                # Once is enough: a job's end must not wait again for a disk that stays full.
                $patience = 0 if $line->{refused_at};
            }
            return if $Loop::told_to_stop;
        }
    }
    $output->note('only the first ' . WALK_MAX . ' files are searched for artifacts') if $budget <= 0;
    return;
}

sub send_file {
    my ($line, $folder, $path, $patience) = @_;
    my ($file, $size) = open_inside($folder, $path);
    return $size if !$file;
    my $left = Loop::deadline() - REPORT_MS - Clock::now_ms();
    my $answer = Loop::call(
        $line,
        method => 'PUT', path => 'artifact?path=' . Wire::escape($path), file => $file, size => $size,
        refused_ms => $left < $patience ? $left : $patience,
    );
    return 'the machine was told to stop' if !$answer;
    return $answer->{status} >= 200 && $answer->{status} < 300 ? undef : Wire::refusal($answer);
}

# Paths below the folder, sorted, of the files that a pattern means. Linked folders are not entered.
# Every entry looked at costs one of `budget`.
sub find_files {
    my ($folder, $pattern, $budget) = @_;
    my $regex = pattern_regex($pattern);
    my @todo = (literal_start($pattern));
    my @found;
    while (defined(my $path = pop @todo)) {
        last if $$budget-- <= 0;
        my $mode = (lstat "$folder/$path")[2] // next;
        if (S_ISDIR($mode)) {
            opendir my $handle, "$folder/$path" or next;
            push @todo, map { $path eq '' ? $_ : "$path/$_" } grep { !/^\.\.?$/ } readdir $handle;
        }
        elsif ($path =~ $regex && (S_ISREG($mode) || S_ISLNK($mode))) { push @found, $path }
    }
    return sort @found;
}

# `*` and `?` stay within a name, `**` crosses folders, and a folder means all that is below it.
sub pattern_regex {
    my ($pattern) = @_;
    my %meaning = ('**/' => '(?:.*/)?', '**' => '.*', '*' => '[^/]*', '?' => '[^/]');
    my $regex = join '', map { $meaning{$_} // quotemeta } $pattern =~ m{\*\*/|\*\*|\*|\?|[^*?]+}g;
    return qr{^$regex(?:/.*)?$}s;
}

# The folder (or the one path) that a pattern cannot leave.
sub literal_start {
    my ($pattern) = @_;
    $pattern =~ s{/+$}{};
    return $pattern if $pattern !~ /[*?]/;
    my ($start) = $pattern =~ m{^([^*?]*)/[^/]*[*?]};
    return $start // '';
}

# Opens a regular file that really lies below the folder. Returns it and its size, or the reason.
sub open_inside {
    my ($folder, $path) = @_;
    my ($root, $real) = (Cwd::realpath($folder), Cwd::realpath("$folder/$path"));
    return (undef, 'it leads nowhere') if !defined $real || !-e $real;
    $root = '' if $root eq '/';
    return (undef, 'it leads out of the work folder') if index($real, "$root/") != 0;
    # Without blocking: a pipe would wait for its writer.
    sysopen my $file, $real, O_RDONLY | O_NOFOLLOW | O_NONBLOCK or return (undef, "$!");
    return -f $file ? ($file, -s _) : (undef, 'it is no regular file');
}

1;
