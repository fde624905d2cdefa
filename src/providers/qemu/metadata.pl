#!/usr/bin/perl
# The metadata service of EC2 for one connection, as QEMU runs it for a disk that is tried: the user
# data is the file `user-data` in the folder where it runs. What the machine reports goes to `report`.
use strict;

alarm 20;
binmode $_ for *STDIN, *STDOUT;
my $token = 'token-of-a-trial';
my ($request, $body) = ('', '');
while ($request !~ /\r\n\r\n/) {
    sysread STDIN, $request, 4096, length $request or exit 1;
    exit 1 if length $request > 16_384;
}
my ($verb, $path) = $request =~ m{\A(\S+) (\S+) HTTP/1\.[01]\r\n} or exit 1;
if ($verb eq 'PUT' && $path eq '/latest/api/token') {
    answer($request =~ /^x-aws-ec2-metadata-token-ttl-seconds: *\d+\r$/mi ? ('200 OK', $token) : '400 Bad Request');
}
elsif ($request !~ /^x-aws-ec2-metadata-token: *\Q$token\E\r$/mi) { answer('401 Unauthorized') }
elsif ($verb eq 'PUT' && $path =~ m{\A/report/([\w-]{1,100})\z}) {
    open my $report, '>', 'report' or exit 1;
    print $report $1;
    close $report;
    answer('200 OK');
}
elsif ($verb eq 'GET' && $path eq '/latest/user-data' && open my $file, '<', 'user-data') {
    binmode $file;
    local $/;
    answer('200 OK', scalar <$file>);
}
elsif ($verb eq 'GET' && $path eq '/latest/meta-data/instance-id') { answer('200 OK', 'i-0123456789abcdef0') }
else { answer('404 Not Found') }

sub answer {
    my ($status, $content) = @_;
    $content //= '';
    print "HTTP/1.0 $status\r\nContent-Length: ", length $content, "\r\nConnection: close\r\n\r\n", $content;
}
