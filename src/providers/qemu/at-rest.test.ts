import assert from "node:assert/strict";
import { createReadStream } from "node:fs";
import { readFile, readdir, stat } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Size } from "../../domain/size.ts";
import { destroyed, World } from "../conformance-world.ts";
import type { MachineSpec } from "../provider.ts";
import { qemuOptions, type QemuOptions } from "./options.ts";
import { imageForTests, Scripts, Stable } from "./testing.ts";

/* What is left of a job's secret on the host's disk, by reading the machine's raw files. */

/** All of it is read, more than once. */
const diskGb = 0.125;
const image = await imageForTests();
const skip = typeof image === "string" ? image : false;
const stable = await Stable.make(image, diskGb);
after(() => stable.close());

/** Puts a secret wherever a job can write; what it is, neither the program nor the log says. */
const scatter = String.raw`use strict;
(my $secret = $ARGV[0]) =~ tr/a-p0-9/A-Pg-p/;
sub put {
  my ($path, $text) = @_;
  open my $file, '>>', $path or die "$path: $!";
  print $file $text;
  close $file or die "$path: $!";
}
my @folders = qw(/work /tmp /var/tmp /var/log /var/cache /var/lib/containers /var/lib/docker /etc /root
  /usr/local/bin /opt /dev/shm /run /home);
for my $folder (@folders) {
  mkdir "$folder/deep" or die "$folder: $!";
  put("$folder/deep/secret.txt", "$secret\n" x 100);
}
put('/root/.bash_history', "login --password $secret\n");
put("/work/a file of $secret", '');
symlink $secret, '/work/link';
# As swap would be; and gone again, so that only the disk's blocks remember.
put("/var/$_", "$secret\n" x 80_000) for qw(swapfile gone);
system 'sync';
unlink '/var/gone';
system 'sync';
$| = 1;
print "written\n";
sleep 1000;
`;

/** The same in our words. */
function secretOf(seed: string): string {
  const upper = seed.replace(/[a-p]/g, (each) => each.toUpperCase());
  return upper.replace(/\d/g, (each) => "ghijklmnop".charAt(Number(each)));
}

describe("what a machine leaves on the host's disk", { skip, timeout: 600_000 }, () => {
  let world: World;
  let size: Size;
  before(async () => {
    world = await World.make((context) => stable.open(context));
    size = { ...world.spec("0", await world.open()).size, diskGb };
  });
  after(async () => assert.deepEqual(await world.close(), []));

  const kinds: readonly (readonly [QemuOptions["scratch"], boolean, string])[] = [
    ["plain", true, "in the open, as it was asked to"],
    ["dmcrypt", false, "under a key that only the machine knew"],
    ["gocryptfs", false, "file by file under a key that only the machine knew"],
    ["tmpfs", false, "nothing at all"],
  ];
  for (const [scratch, isFound, title] of kinds) {
    it(`is ${title} (${scratch})`, async (t) => {
      if (!canHave(scratch)) return t.skip("the image has no gocryptfs");
      const provider = await stable.open(world.context(), { scratch });
      const scripts = new Scripts(world, provider);
      const seed = randomBytes(24).toString("hex");
      const secret = secretOf(seed);
      const script = 'exec perl -e "$1" "$2"';
      const spec = await scripts.begin(script, { size }, [scatter, seed]);
      await scripts.heard(spec, "written");
      const { found, bytes } = await search(scripts.folderOf(spec), secret);
      assert.deepEqual(await search(stable.folder, secret).then((each) => each.found), []);
      if (isFound) assert.deepEqual(found, ["scratch"]);
      else assert.deepEqual(found, []);
      // That there was something to find it in.
      if (scratch !== "tmpfs") assert.ok(bytes > 4_000_000, `${bytes} bytes were read`);
      await destroyed(provider, spec.name);
      await provider.close();
    });
  }

  it("is under another key in each machine, although they are copies", async () => {
    const provider = await stable.open(world.context());
    const scripts = new Scripts(world, provider);
    const script = "head -c 5000000 /dev/zero >/work/zeros; sync; echo written; exec sleep 1000";
    const specs: MachineSpec[] = [];
    const blocks: Set<string>[] = [];
    for (let n = 0; n < 2; n += 1) {
      const spec = await scripts.begin(script, { size });
      await scripts.heard(spec, "written");
      specs.push(spec);
      blocks.push(await blocksOf(join(scripts.folderOf(spec), "scratch")));
    }
    const [one, other] = blocks as [Set<string>, Set<string>];
    assert.ok(one.size > 1_200 && other.size > 1_200, `${one.size} and ${other.size} blocks`);
    assert.deepEqual(
      [...one].filter((block) => other.has(block)),
      [],
    );
    for (const { name } of specs) await destroyed(provider, name);
    await provider.close();
  });

  it("is nothing else that a configuration may ask for", () => {
    assert.equal(qemuOptions.safeParse({ scratch: "none" }).success, false);
  });
});

function canHave(scratch: QemuOptions["scratch"]): boolean {
  if (scratch !== "gocryptfs" || typeof image === "string") return true;
  return image.packages.some(({ name }) => name === "gocryptfs");
}

/** Which files below `folder` hold the secret, and how many bytes other than zeros were read. */
async function search(folder: string, secret: string): Promise<{ found: string[]; bytes: number }> {
  const found: string[] = [];
  let bytes = 0;
  for (const name of await readdir(folder, { recursive: true })) {
    const path = join(folder, name);
    if (!(await stat(path)).isFile()) continue;
    let rest = Buffer.alloc(0);
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 22 })) {
      const whole = Buffer.concat([rest, chunk as Buffer]);
      if (whole.includes(secret) && !found.includes(name)) found.push(name);
      if (!isZero(chunk as Buffer)) bytes += (chunk as Buffer).length;
      rest = whole.subarray(-secret.length);
    }
  }
  return { found, bytes };
}

function isZero(chunk: Buffer): boolean {
  return chunk.equals(Buffer.alloc(chunk.length));
}

/** The blocks of 4 KiB in a file that are not zeros, once each. */
async function blocksOf(path: string): Promise<Set<string>> {
  const all = await readFile(path);
  const zero = Buffer.alloc(4096);
  const blocks = new Set<string>();
  for (let at = 0; at < all.length; at += 4096) {
    const block = all.subarray(at, at + 4096);
    if (!block.equals(zero)) blocks.add(block.toString("latin1"));
  }
  return blocks;
}
