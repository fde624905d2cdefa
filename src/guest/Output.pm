# What the job printed, on its way to the manager: numbered frames, kept until they are accepted.
package Output;
use strict;
use warnings;
use Clock;
use Loop;
use Wire;

use constant {
    FRAME_MAX  => 64 * 1024,
    BATCH_MAX  => 1024 * 1024,
    BATCH_SOON => 64 * 1024,          # this much is sent at once, less after BATCH_MS
    BATCH_MS   => 50,
    JOIN_MS    => 5,                  # what comes this close together shares a frame
    SPOOL_MAX  => 8 * 1024 * 1024,    # beyond it the job's writes wait
};

sub new {
    my ($class, $line) = @_;
    return bless {
        line => $line, frames => [], bytes => 0, in_flight => 0, last => 0, sent_at => 0,
        offset => Clock::wall_ms() - Clock::now_ms(),
    }, $class;
}

sub add {
    my ($self, $stream, $bytes) = @_;
    my $at = $self->{offset} + Clock::now_ms();
    my $last = $self->{frames}[-1];
    $self->{bytes} += length $bytes;
    if ($last && $last->[2] eq $stream && $at < $last->[1] + JOIN_MS && length($last->[3]) + length($bytes) <= FRAME_MAX) {
        $last->[3] .= $bytes;
        return;
    }
    push @{ $self->{frames} }, [ ++$self->{last}, $at, $stream, $bytes ];
    return;
}

# A line of our own among the job's.
sub note {
    my ($self, $text) = @_;
    return $self->add('mayfly', substr($text, 0, 2000) . "\n");
}

# The manager is told with the next batch, and with each until one is accepted.
sub job_begins { $_[0]{begun} = 1; return }

sub has_room { return $_[0]{bytes} + $_[0]{in_flight} < SPOOL_MAX }
sub is_empty { return !@{ $_[0]{frames} } && !$_[0]{in_flight} }

# How and why the manager wants the job to end, once it said so.
sub order { return $_[0]{order} }

# Sends a batch when the line is free and enough has come or waited, or `at_once`. Returns when to
# look again, if at any moment.
sub send {
    my ($self, $at_once) = @_;
    $self->settle;
    my $frames = $self->{frames};
    return if !@$frames || $self->{in_flight};
    my ($now, $due) = (Clock::now_ms(), $self->{sent_at} + BATCH_MS);
    return $due if !$at_once && $now < $due && $self->{bytes} < BATCH_SOON;
    my $body = '';
    while (@$frames && length($body) + length($frames->[0][3]) + 64 <= BATCH_MAX) {
        my ($seq, $at, $stream, $bytes) = @{ shift @$frames };
        $body .= "$seq $at $stream " . length($bytes) . "\n$bytes";
        $self->{bytes} -= length $bytes;
    }
    @$self{qw(in_flight sent_at)} = (length $body, $now);
    $self->{tells} = $self->{begun};
    $self->{line}->ask(method => 'POST', path => $self->{tells} ? 'append?started=1' : 'append', type => 'application/octet-stream', body => $body);
    return;
}

sub settle {
    my ($self) = @_;
    return if !$self->{in_flight} || !$self->{line}->answer;
    $self->{in_flight} = 0;
    $self->{order} //= order_in($self->{line}->answer);
    $self->{begun} = 0 if $self->{tells} && $self->{line}->answer->{status} < 300;
    return;
}

# [how, why], or nothing: go on.
sub order_in {
    my ($answer) = @_;
    if ($answer->{status} >= 400) { return [ 'error', 'the manager no longer wants it: ' . Wire::refusal($answer) ] }
    my $why = Wire::first(Wire::read_pairs($answer->{body}), 'cancel');
    return defined $why ? [ 'cancelled', $why ] : undef;
}

# Until all is accepted; or refused, since then nothing more will be accepted either.
sub flush {
    my ($self) = @_;
    until ($self->is_empty) {
        $self->send(1);
        return if $self->{order} && $self->{order}[0] eq 'error';
        Loop::turn(Loop::deadline()) if $self->{in_flight};
    }
    return;
}

1;
