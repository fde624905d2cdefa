import { gzipSync } from "node:zlib";
import { createHash } from "node:crypto";
import { ProviderError } from "../../domain/errors.ts";
import type { Program, ProgramFile } from "../../domain/program.ts";

/** EC2's limit, before base64. */
const userDataBytesMax = 16 * 1024;
/** In base64 the 4 KiB that Parameter Store takes in a standard parameter, which costs nothing. */
const secretBytesMax = 3 * 1024;

export interface Boot {
  readonly program: Program;
  /** Whether EC2 may take it back, so that it has to look out for the notice. */
  readonly isSpot: boolean;
  /** Whether its guest is to show which instance it is. */
  readonly proves: boolean;
  /** Where its secret files are, when they are not to be in the user data. */
  readonly secret: { readonly region: string; readonly prefix: string } | null;
}

/** Files that only their owner may read hold what nobody else shall know: the claim. */
function isSecret({ mode }: ProgramFile): boolean {
  return (mode & 0o077) === 0;
}

/**
 * What the instance runs at its first boot, in base64: a gzipped shell script, which cloud-init
 * unpacks. Made of the same program it is the same, byte for byte. Throws `invalid` when the
 * program does not fit.
 */
export function userData(boot: Boot): string {
  const zipped = gzipSync(bootScript(boot), { level: 9 });
  if (zipped.length <= userDataBytesMax) return zipped.toString("base64");
  const excess = `${zipped.length} bytes of user data, and EC2 takes ${userDataBytesMax}`;
  throw new ProviderError("invalid", `the program cannot be handed over: ${excess}`);
}

/** The files that go through Parameter Store instead, as lines of shell; null when there are none. */
export function secretScript(program: Program): string | null {
  const files = program.files.filter(isSecret);
  if (files.length === 0) return null;
  const script = files.map(writeFile).join("");
  if (Buffer.byteLength(script) <= secretBytesMax) return script;
  const fault = `its secret files are larger than ${secretBytesMax} bytes together`;
  throw new ProviderError("invalid", `the program cannot be handed over: ${fault}`);
}

/** Perl, since the guest needs it anyway; prints one item of the instance's metadata. */
const metadataScript = String.raw`use strict;
use IO::Socket::INET;
alarm 10;
sub ask {
  my ($verb, $path, $header) = @_;
  my $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => 80, Timeout => 2) or exit 1;
  print $s "$verb $path HTTP/1.0\r\nHost: metadata\r\nContent-Length: 0\r\nX-aws-ec2-metadata-token$header\r\n\r\n";
  local $/;
  my ($head, $body) = split /\r\n\r\n/, scalar <$s>, 2;
  exit 1 unless $head =~ m{^HTTP/1\.\d 200 };
  return $body;
}
print ask('GET', $ARGV[1], ': ' . ask('PUT', '/latest/api/token', '-ttl-seconds: 60'));
`;

/** The two variables are for tests, which play the machine in a folder. */
function bootScript({ program, isSpot, proves, secret }: Boot): string {
  const files = secret === null ? program.files : program.files.filter((file) => !isSecret(file));
  const seconds = Math.ceil(program.deadlineSeconds);
  const environment = Object.entries(program.environment).map(
    ([name, value]) => ` ${name}=${placed(value)}`,
  );
  return `#!/bin/sh
# Made by Mayfly for one job: runs its program, then shuts down, which ends the instance.
umask 022
root=\${MAYFLY_ROOT:-/var/lib/mayfly}
metadata=\${MAYFLY_METADATA:-169.254.169.254}
end() { trap - EXIT; sync; shutdown -h now || poweroff -f; }
trap end EXIT
trap exit HUP INT TERM
# The system keeps this deadline though the job may end our own processes.
shutdown -h +${Math.ceil(seconds / 60) + 1} >/dev/null 2>&1
(sleep ${seconds}; end) &
mkdir -p "$root/program" "$root/home" && cd "$root/home" || exit 1
file() { case $2 in */*) mkdir -p "$root/program/\${2%/*}" ;; esac; (umask 077; cat >"$root/program/$2") && chmod "$1" "$root/program/$2"; }
file64() { base64 -d | file "$1" "$2"; }
${files.map(writeFile).join("")}${isSpot || proves || secret !== null ? `meta() { perl -e ${quoted(metadataScript)} "$metadata" "$1"; }\n` : ""}${proves ? proveIdentity : ""}${secret === null ? "" : fetchSecret(secret)}env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME="$root/home"${proves ? ' MAYFLY_PROOF="$proof"' : ""}${environment.join("")} sh -c 'exec "$@"' sh${program.command.map((word) => ` ${placed(word)}`).join("")} </dev/null &
job=$!
${isSpot ? watchSpot : ""}wait $job
`;
}

/** What shows which instance this is, for whoever knows AWS's key: the document's very bytes count. */
const proveIdentity = `identity() { meta "/latest/dynamic/instance-identity/$1"; }
tries=0
until document=$(identity document | base64 | tr -d '\\n') signature=$(identity signature | tr -d '\\n'); [ "$document" ] && [ "$signature" ]; do
  tries=$((tries + 1)); [ $tries -lt 30 ] && sleep 2 || break
done
proof=$document.$signature
`;

/** EC2 gives notice two minutes before; AWS advises to look every five seconds. The guest knows the signal. */
const watchSpot = `(while sleep 5; do meta /latest/meta-data/spot/instance-action >/dev/null 2>&1 && kill -USR1 $job; done) &
`;

/**
 * Waits for the parameter that is named by the instance's id, writes what is in it, and deletes it.
 * The credentials are the role's, and reach curl by its standard input.
 */
function fetchSecret({ region, prefix }: { region: string; prefix: string }): string {
  const url = `\${MAYFLY_SSM:-https://ssm.${region}.amazonaws.com/}`;
  return `id=$(meta /latest/meta-data/instance-id)
role=$(meta /latest/meta-data/iam/security-credentials/)
field() { printf %s "$keys" | tr ',{}' '\\n\\n\\n' | sed -n "s/^ *\\"$1\\" *: *\\"\\(.*\\)\\" *$/\\1/p"; }
ssm() {
  keys=$(meta "/latest/meta-data/iam/security-credentials/$role")
  printf 'user = "%s:%s"\\nheader = "X-Amz-Security-Token: %s"\\n' "$(field AccessKeyId)" "$(field SecretAccessKey)" "$(field Token)" |
    curl -sf -K - --max-time 10 --aws-sigv4 'aws:amz:${region}:ssm' -H 'Content-Type: application/x-amz-json-1.1' -H "X-Amz-Target: AmazonSSM.$1" -d "$2" "${url}"
}
tries=0
until keys= secret=$(ssm GetParameter "{\\"Name\\":\\"${prefix}/$id\\",\\"WithDecryption\\":true}"); do
  tries=$((tries + 1)); [ $tries -lt 60 ] && sleep 2 || exit 1
done
eval "$(printf %s "$secret" | tr ',{}' '\\n\\n\\n' | sed -n 's/^ *"Value" *: *"\\(.*\\)" *$/\\1/p' | base64 -d)"
ssm DeleteParameter "{\\"Name\\":\\"${prefix}/$id\\"}" >/dev/null
unset keys secret
`;
}

/** As text where a here-document carries it, which packs far better than base64. */
function writeFile({ path, mode, content }: ProgramFile): string {
  const to = `${mode.toString(8)} ${quoted(path)}`;
  const delimiter = `end-${createHash("sha256").update(content).digest("hex").slice(0, 16)}`;
  const isText = content.endsWith("\n") && !content.includes("\0") && content.isWellFormed();
  if (isText && !content.split("\n").includes(delimiter)) {
    return `file ${to} <<'${delimiter}'\n${content}${delimiter}\n`;
  }
  return `file64 ${to} <<'-'\n${Buffer.from(content).toString("base64")}\n-\n`;
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

/** A word with its placeholders: `{guest}` is where a local machine would have the socket. */
function placed(word: string): string {
  return word
    .split(/(\{program\}|\{guest\})/)
    .map((part) =>
      part === "{program}"
        ? '"$root/program"'
        : part === "{guest}"
          ? '"$root/guest.sock"'
          : quoted(part),
    )
    .join("");
}
