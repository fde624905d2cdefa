# Tells whether an event is of a repository's own code: job-started.pl EVENT-FILE OWNER/NAME. Status
# 0: it is. The event holds what a stranger wrote, so it is parsed, not searched; and by hand, since
# a small system's Perl comes without JSON::PP.
use strict;
use warnings;

my ($path, $repository) = @ARGV;
my $depth_max = 100;
my ($text, $depth) = ('', 0);

sub bad { die "the event is no JSON: $_[0]\n" }

sub skip_space { $text =~ /\G[ \t\r\n]+/gc; return }

sub string {
  my $value = '';
  $text =~ /\G"/gc or bad('no string');
  while (1) {
    if ($text =~ /\G([^"\\]+)/gc) { $value .= $1 }
    elsif ($text =~ /\G\\u([0-9A-Fa-f]{4})/gc) { $value .= chr hex $1 }
    elsif ($text =~ /\G\\(.)/gcs) { $value .= $1 }
    elsif ($text =~ /\G"/gc) { return $value }
    else { bad('a string without an end') }
  }
}

sub object {
  my %value;
  skip_space();
  return \%value if $text =~ /\G\}/gc;
  while (1) {
    skip_space();
    my $key = string();
    skip_space();
    $text =~ /\G:/gc or bad('no colon');
    $value{$key} = value();
    skip_space();
    return \%value if $text =~ /\G\}/gc;
    $text =~ /\G,/gc or bad('no comma');
  }
}

sub list {
  my @value;
  skip_space();
  return \@value if $text =~ /\G\]/gc;
  while (1) {
    push @value, value();
    skip_space();
    return \@value if $text =~ /\G\]/gc;
    $text =~ /\G,/gc or bad('no comma');
  }
}

sub value {
  skip_space();
  bad('too deep') if ++$depth > $depth_max;
  my $value;
  if ($text =~ /\G\{/gc) { $value = object() }
  elsif ($text =~ /\G\[/gc) { $value = list() }
  elsif ($text =~ /\G(?=")/gc) { $value = string() }
  elsif ($text =~ /\G(?:-?[0-9][0-9.eE+-]*|true|false|null)/gc) { $value = undef }
  else { bad('no value') }
  $depth--;
  return $value;
}

length $repository or die "there is no repository to tell whose code this is\n";
open my $in, '<', $path or die "the event cannot be read: $!\n";
$text = do { local $/; <$in> };
close $in;
my $event = value();
skip_space();
bad('more than one value') if ($text =~ /\G./gcs);
bad('no object') if ref $event ne 'HASH';

# Only events of a pull request run code that may be another repository's; the others run what was
# pushed to this one. A pull request whose fork is gone names no repository any more.
exit 0 unless exists $event->{pull_request};
my $pull = $event->{pull_request};
my $head = ref $pull eq 'HASH' && ref $pull->{head} eq 'HASH' ? $pull->{head}{repo} : undef;
my $name = ref $head eq 'HASH' ? $head->{full_name} : undef;
exit 0 if defined $name && lc $name eq lc $repository;
die "this pull request comes from a fork\n";
