# JSON as the channel speaks it. perl-base has none. Strings are bytes (UTF-8), numbers are numbers;
# true and false are 1 and 0.
package Json;
use strict;

# Dies on anything that is not one JSON value.
sub decode {
    my ($text) = @_;
    pos($text) = 0;
    my $value = value(\$text, 0);
    $text =~ /\G\s*\z/gc or die "JSON: something follows the value\n";
    return $value;
}

my %words = (true => 1, false => 0, null => undef);
my %escapes = (b => "\b", f => "\f", n => "\n", r => "\r", t => "\t");

sub value {
    my ($in, $depth) = @_;
    die "JSON: too deep\n" if $depth > 32;
    return string($in) if $$in =~ /\G\s*"/gc;
    return 0 + $1 if $$in =~ /\G\s*(-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)/gc;
    return $words{$1} if $$in =~ /\G\s*(true|false|null)\b/gc;
    return members($in, $depth) if $$in =~ /\G\s*\{/gc;
    $$in =~ /\G\s*\[/gc or die "JSON: no value\n";
    my @items;
    return \@items if $$in =~ /\G\s*\]/gc;
    do { push @items, value($in, $depth + 1) } while $$in =~ /\G\s*,/gc;
    $$in =~ /\G\s*\]/gc or die "JSON: a list does not end\n";
    return \@items;
}

sub members {
    my ($in, $depth) = @_;
    my %members;
    return \%members if $$in =~ /\G\s*\}/gc;
    do {
        $$in =~ /\G\s*"/gc or die "JSON: a member has no name\n";
        my $name = string($in);
        $$in =~ /\G\s*:/gc or die "JSON: a member has no value\n";
        $members{$name} = value($in, $depth + 1);
    } while $$in =~ /\G\s*,/gc;
    $$in =~ /\G\s*\}/gc or die "JSON: an object does not end\n";
    return \%members;
}

# By chunks: one pattern for all of a long string would meet Perl's limit on repetitions.
sub string {
    my ($in) = @_;
    my $string = '';
    while ($$in !~ /\G"/gc) {
        if ($$in =~ /\G([^"\\]+)/gc) { $string .= $1 }
        elsif ($$in =~ /\G\\u([dD][89abAB]..)\\u([dD][c-fC-F]..)/gc) {
            $string .= utf8(0x10000 + ((hex($1) & 0x3ff) << 10) + (hex($2) & 0x3ff));
        }
        elsif ($$in =~ /\G\\u([0-9a-fA-F]{4})/gc) { $string .= utf8(hex $1) }
        elsif ($$in =~ /\G\\(.)/gc) { $string .= $escapes{$1} // $1 }
        else { die "JSON: a string does not end\n" }
    }
    return $string;
}

sub utf8 {
    my $character = chr $_[0];
    utf8::encode($character);
    return $character;
}

# Of names and scalars or lists of scalars; what looks like a number is one.
sub encode {
    my ($value) = @_;
    return 'null' if !defined $value;
    return '[' . join(',', map { encode($_) } @$value) . ']' if ref $value eq 'ARRAY';
    return '{' . join(',', map { quote($_) . ':' . encode($value->{$_}) } sort keys %$value) . '}' if ref $value;
    return $value =~ /^-?(0|[1-9]\d{0,14})\z/ ? $value : quote($value);
}

sub quote {
    my ($text) = @_;
    $text =~ s/([\\"\x00-\x1f])/sprintf '\\u%04x', ord $1/ge;
    return qq("$text");
}

sub from_base64 {
    my ($text) = @_;
    $text =~ tr|A-Za-z0-9+/||cd;
    $text =~ tr|A-Za-z0-9+/| -_|;
    return join '', map { unpack 'u', chr(32 + int(length($_) * 3 / 4)) . $_ } $text =~ /(.{1,60})/gs;
}

1;
