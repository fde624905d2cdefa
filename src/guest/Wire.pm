# The words that guest and manager exchange; docs/guest.md describes them.
package Wire;
use strict;
use warnings;

sub escape {
    my ($text) = @_;
    $text =~ s/([^A-Za-z0-9._~-])/sprintf '%%%02X', ord $1/ge;
    return $text;
}

sub unescape {
    my ($text) = @_;
    $text =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    return $text;
}

# Lines of name=value, each value escaped; a name may come again. Returns name => [values].
sub read_pairs {
    my %pairs;
    for (split /\n/, $_[0]) {
        my ($name, $value) = /^([a-z]+)=(.*)$/ or next;
        push @{ $pairs{$name} }, unescape($value);
    }
    return \%pairs;
}

sub first {
    my ($pairs, $name) = @_;
    return exists $pairs->{$name} ? $pairs->{$name}[0] : undef;
}

# What a question with these fields needs.
sub form {
    my (%fields) = @_;
    return (
        type => 'application/x-www-form-urlencoded',
        body => join '&', map { "$_=" . escape($fields{$_}) } sort keys %fields
    );
}

# Why a question was refused, in the manager's words.
sub refusal {
    my ($answer) = @_;
    return first(read_pairs($answer->{body}), 'message') // "status $answer->{status}";
}

1;
