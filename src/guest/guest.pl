#!/usr/bin/perl
# Mayfly's guest: what runs in a machine. It redeems its one-time claim, asks for one job, runs it,
# sends what the job printed, its artifacts and its exit, and ends. It needs perl-base, a POSIX shell
# and tar. docs/guest.md describes what it says to the manager, and every bound.
#
#   MAYFLY_URL=unix:/path|http://host:port|https://host perl guest.pl CLAIM-FILE
use strict;
use warnings;
BEGIN { unshift @INC, __FILE__ =~ m{^(.*)/} ? $1 : '.' }
use Clock;
use Command;
use Files;
use Line;
use Loop;
use Output;
use Process;
use Wire;

use constant {
    WORK_SECONDS   => 25,             # how long the manager may hold the question for work
    ALONE_MS       => 15 * 60_000,    # a machine without a job and without a manager ends after this
    REPORT_SECONDS => 60,             # beyond the job's own time, to end and report it
};

# The status to exit with: 0 when the job was reported, or none came.
sub main {
    die "usage: guest.pl CLAIM-FILE\n" if @ARGV != 1;
    my $claim = read_claim($ARGV[0]);
    my $url = $ENV{MAYFLY_URL} // die "MAYFLY_URL is not set\n";
    my $pool_seconds = Wire::first($claim, 'job') || 3600;
    my $job_seconds = $pool_seconds + REPORT_SECONDS;
    my ($output_line, $orders) = (Line->new($url, Wire::first($claim, 'claim')), Line->new($url));
    Loop::begin(Wire::first($claim, 'life') || 24 * 3600, $output_line, $orders);
    Process::adopt_orphans();

    my $session = redeem($output_line);
    $_->{token} = $session for $output_line, $orders;
    # Later than this a job would not have all of its time.
    my $work = ask_for_work($output_line, Loop::deadline() - $job_seconds * 1000) or return 0;
    Loop::end_within($job_seconds) if !waits_itself($work);
    my ($folder, $answer);
    while ($work) {
        my $more = Wire::first($work, 'more');
        $folder //= Files::make_folder();
        my $output = Output->new($output_line);
        my ($how, $status, $detail) = do_work($work, $folder, $pool_seconds, $output_line, $orders, $output);
        $output->flush;
        $orders->forget;
        $answer = Loop::call(
            $output_line,
            method => 'POST', path => 'finish', even_if_stopped => 1,
            Wire::form(how => $how, exit => $status // '', detail => substr($detail // '', 0, 500)),
        );
        last if !$more || $answer->{status} >= 300;
        $work = ask_for_work($output_line, Loop::deadline() - REPORT_SECONDS * 1000);
    }
    return $answer->{status} < 300 ? 0 : 1;
}

sub read_claim {
    my ($path) = @_;
    open my $file, '<', $path or die "cannot read the claim $path: $!\n";
    my $pairs = Wire::read_pairs(do { local $/; scalar <$file> });
    close $file;
    unlink $path;    # It works only once; where it cannot be removed no harm is done.
    defined Wire::first($pairs, 'claim') or die "$path holds no claim\n";
    return $pairs;
}

# Exchanges the claim for the session. The nonce makes asking again after a lost answer safe.
sub redeem {
    my ($line) = @_;
    open my $random, '<:raw', '/dev/urandom' or die "no randomness: $!\n";
    read($random, my $bytes, 16) == 16 or die "no randomness\n";
    my $answer = Loop::call($line, method => 'POST', path => 'redeem', within => ALONE_MS,
        Wire::form(nonce => unpack('H*', $bytes), defined $ENV{MAYFLY_PROOF} ? (proof => delete $ENV{MAYFLY_PROOF}) : ()));
    die "no manager answered\n" if !$answer;
    die 'the claim was refused: ', Wire::refusal($answer), "\n" if $answer->{status} != 200;
    return Wire::first(Wire::read_pairs($answer->{body}), 'session');
}

# What to do, or nothing when this machine is not wanted (any more).
sub ask_for_work {
    my ($line, $latest) = @_;
    while (1) {
        my $asked = Clock::now_ms();
        my $left = int(($latest - $asked) / 1000);
        my $wait = $left < 0 ? 0 : $left < WORK_SECONDS ? $left : WORK_SECONDS;
        my $answer = Loop::call($line, method => 'POST', path => "work?wait=$wait", within => ALONE_MS, patience => ($wait + 15) * 1000);
        if (!$answer || $answer->{status} >= 400) {
            print STDERR 'mayfly-guest: no work: ', $answer ? Wire::refusal($answer) : 'nobody answers', "\n";
            return;
        }
        return Wire::read_pairs($answer->{body}) if $answer->{status} == 200;
        # Only an answer that says "none" ends it: a job on its way to us may not be left behind.
        return if $left <= 0;
        Loop::turn($asked + 1000) while Clock::now_ms() < $asked + 1000 && !$Loop::told_to_stop;
    }
}

# A forge's runner waits for its job by itself: how long that may run, the manager minds.
sub waits_itself { return defined Wire::first($_[0], 'begins') }

sub do_work {
    my ($work, $folder, $pool_seconds, $line, $orders, $output) = @_;
    return ('error', undef, 'there is no folder to work in') if !$folder;
    my $problem = Wire::first($work, 'source') ? Files::unpack_source($line, $folder) : undef;
    my $seconds = Wire::first($work, 'timeout') || $pool_seconds;
    $seconds = $pool_seconds if $pool_seconds < $seconds && !waits_itself($work);
    my $files = $work->{file} ? Files::write_files($work->{file}, $folder) : '';
    $problem //= 'the files of the work cannot be written' if !defined $files;
    my %places = (files => $files, work => $folder);
    my @end = $problem ? ('error', undef, $problem) : Command::run($work, \%places, $seconds, $output, $orders);
    $output->note($end[2]) if $end[0] eq 'error';
    # One line carries both: what was printed goes first.
    $output->flush;
    Files::send_artifacts($line, $work, Wire::first($work, 'root') // $folder, $output) if $end[0] eq 'exited' || $end[0] eq 'timed_out';
    return @end;
}

exit main();
