#!/usr/bin/env perl
# The hook before a job's first step, in pools that do not accept forks: ends a job whose code is a
# fork's with an error, before any of that code runs. Gitea gives a job to any runner with its
# labels, and those a pull request's author writes.
use strict;
use warnings;

my $event = $ENV{GITHUB_EVENT_NAME} || '';
exit 0 if $event !~ /^pull_request/;

sub refuse {
  print "::error::This pool runs no code of forks: $_[0].\n";
  exit 1;
}

# One JSON value at the text's position: no more of JSON than Perl's own modules, which are not
# everywhere, would be needed for.
my %plain = (true => 1, false => 0, null => undef);

sub value {
  my ($text, $depth) = @_;
  die "too deep\n" if $depth > 200;
  $$text =~ /\G\s+/gc;
  if ($$text =~ /\G\{\s*/gc) {
    my %members;
    until ($$text =~ /\G\s*\}/gc) {
      my $name = value($text, $depth + 1);
      $$text =~ /\G\s*:/gc or die "no colon\n";
      $members{$name} = value($text, $depth + 1);
      $$text =~ /\G\s*,/gc or $$text =~ /\G(?=\s*\})/gc or die "no comma\n";
    }
    return \%members;
  }
  if ($$text =~ /\G\[\s*/gc) {
    my @items;
    until ($$text =~ /\G\s*\]/gc) {
      push @items, value($text, $depth + 1);
      $$text =~ /\G\s*,/gc or $$text =~ /\G(?=\s*\])/gc or die "no comma\n";
    }
    return \@items;
  }
  # Escapes stay as they are: only whether a text is empty counts here.
  return $1 if $$text =~ /\G"((?:[^"\\]++|\\.)*+)"/gcs;
  return $plain{$1} if $$text =~ /\G(true|false|null)/gc;
  return $1 if $$text =~ /\G(-?[0-9][0-9.eE+-]*)/gc;
  die "no value\n";
}

my $pull = eval {
  open(my $file, '<', $ENV{GITHUB_EVENT_PATH}) or die "$!\n";
  local $/;
  my $text = <$file>;
  value(\$text, 0)->{pull_request};
};
refuse('it cannot be told whose it is') if ref $pull ne 'HASH';
refuse('pull_request_target may run a fork\'s code') if $event eq 'pull_request_target';
my ($head, $base) = @$pull{qw(head base)};
for my $side ($head, $base) {
  refuse('its fork is gone') if ref $side ne 'HASH' || ref $side->{repo} ne 'HASH';
}
refuse('it was pushed to refs/for') if ($head->{label} || '') eq '';
refuse('it is of another repository')
  if ($head->{repo}{id} || 'none') ne ($base->{repo}{id} || 'other');
exit 0;
