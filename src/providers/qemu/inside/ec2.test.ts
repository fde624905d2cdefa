import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { text } from "node:stream/consumers";

/*
 * What a machine of EC2 hears from its network, as ordinary processes; all of it together is tried
 * where images are booted.
 */

function perl(script: string): string {
  const words = ["-I", import.meta.dirname, "-e", `use strict; ${script}`];
  const { status, stdout, stderr } = spawnSync("perl", words, { timeout: 110_000 });
  assert.equal(status, 0, stderr.toString());
  return stdout.toString();
}

/** An answer as a server sends it: an offer of 10.0.0.5, with options. */
const answer = String.raw`
  use Dhcp;
  my $options = join '', map { Dhcp::option(@$_) } [53, "\x02"], [1, "\xff\xff\xff\0"], [3, "\x0a\0\0\1"],
    [6, "\x0a\0\0\2\x0a\0\0\3"], [54, "\x0a\0\0\1"], [51, "\0\0\x0e\x10"];
  my $dhcp = pack 'C4 a4 n n a4 a4 x8 x16 x192 a4 a*', 2, 1, 6, 0, 'abcd', 0, 0, "\0" x 4, "\x0a\0\0\5",
    "\x63\x82\x53\x63", "\0\0$options\xff";
  my $packet = pack('C C n x5 C x2 a4 a4', 0x45, 0, 28 + length $dhcp, 17, "\x0a\0\0\1", "\xff" x 4)
    . pack('n4', 67, 68, 8 + length $dhcp, 0) . $dhcp;
`;

describe("DHCP inside", () => {
  test("an answer's address, netmask, gateway and first name server", () => {
    const printed = perl(`${answer}
      my $given = Dhcp::parse($packet, 'abcd');
      my $settings = Dhcp::settings($given);
      print ord $given->{53}, ' ', join ' ', map { $settings->{$_} } qw(address netmask gateway dns);`);
    assert.equal(printed, "2 10.0.0.5 255.255.255.0 10.0.0.1 10.0.0.2");
  });

  test("an answer to another, and rubbish of any kind, is none", () => {
    const printed = perl(`${answer}
      my $wrong = 0;
      $wrong++ if Dhcp::parse($packet, 'abce');
      Dhcp::parse(substr($packet, 0, $_), 'abcd') and $wrong++ for 0 .. 267;
      Dhcp::settings(Dhcp::parse(substr($packet, 0, $_), 'abcd') // {}) for 268 .. length $packet;
      srand 7;
      for (1 .. 5000) {
        my $noise = $packet;
        substr $noise, rand length $noise, 1, chr rand 256 for 1 .. 1 + rand 8;
        my $given = Dhcp::parse($noise, 'abcd');
        Dhcp::settings($given) if $given;
      }
      print $wrong;`);
    assert.equal(printed, "0");
  });

  test("a question is a whole packet, with the checksum that IP wants", () => {
    const printed = perl(`use Dhcp;
      my $packet = Dhcp::packet(Dhcp::request('abcd', "\\x02\\0\\0\\0\\0\\1", Dhcp::option(53, chr 1)));
      my $sum = 0; $sum += $_ for unpack 'n10', $packet;
      $sum = ($sum & 0xffff) + ($sum >> 16) for 1, 2;
      printf '%x %d', $sum, unpack('x2 n', $packet) - length $packet;`);
    assert.equal(printed, "ffff 0");
  });
});

describe("the metadata inside", () => {
  /** Asks a server of ours, which answers each connection as told, for `/x`. */
  async function ask(answers: readonly string[], waitMs = 100_000): Promise<string> {
    let n = 0;
    const server = createServer((socket: Socket) => {
      socket.on("error", () => {});
      socket.once("data", () => socket.end(answers[Math.min(n++, answers.length - 1)] ?? ""));
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const script = `use strict; use Metadata;
      my $got = eval { Metadata::get('/x', pack('S n C4 x8', 2, ${port}, 127, 0, 0, 1), ${waitMs}) };
      print defined $got ? "got $got" : $@ ? "died $@" : 'none';`;
    const child = spawn("perl", ["-I", import.meta.dirname, "-e", script]);
    const printed = await text(child.stdout);
    server.close();
    return printed;
  }
  const ok = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
  const none = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

  test("a token first, then what was asked for; nothing where there is none", async () => {
    assert.equal(await ask([ok("token"), ok("#!/bin/sh\n")]), "got #!/bin/sh\n");
    assert.equal(await ask([ok("token"), none]), "none");
  });

  test("is asked again when it fails, stutters or is not ready", async () => {
    const cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    const failed = "HTTP/1.1 503 Busy\r\n\r\n";
    assert.equal(await ask(["", ok("t"), cut, failed, ok("t"), ok("whole")]), "got whole");
  });

  test("is given up in the end, saying why", async () => {
    /** Asks again where this server, on a busy host, did not answer in time. */
    const said = async (answer: string): Promise<string> => {
      for (;;) {
        const printed = await ask([answer], 700);
        if (!/had: (no answer|cannot connect|\s*$)/.test(printed)) return printed;
      }
    };
    const refused = "HTTP/1.1 403 Forbidden\r\n\r\n";
    assert.match(await said(refused), /^died the instance's metadata .* it answered 403/);
    assert.match(await said("SSH-2.0-OpenSSH\r\n"), /^died .* a strange answer/);
  });
});
