import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  mkdir,
  mkdtemp,
  readFile,
  readdir,
  rename,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chooseSuite, hasTool } from "../../debian.ts";
import { hostArchitecture } from "../../local.ts";
import { buildImage, type ImageOptions } from "./build.ts";
import { readImage, verifyImage } from "./manifest.ts";

/*
 * A stand-in takes mmdebstrap's place: what makes an image out of what that gives is tried here in a
 * second, and images of real packages where machines boot them.
 */
const tools = ["dpkg-deb", "depmod", "mksquashfs", "unsquashfs", "tar", "apt-config", "unshare"];
const missing: string[] = [];
for (const tool of tools) if (!(await hasTool(tool))) missing.push(tool);
const architecture = hostArchitecture();
const skip = missing.length > 0 ? `${missing.join(", ")} not installed` : architecture === null;
const signal = new AbortController().signal;
const triplet = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";

/** Gives the kernel's archive for a system of nothing, and the tree for any other. */
const standIn = `#!/bin/sh
[ ! -e "$STAND_IN/fault" ] || { echo "I: running apt-get update..." >&2; cat "$STAND_IN/fault" >&2; exit 25; }
[ ! -e "$STAND_IN/hang" ] || { echo "I: running apt-get update..." >&2; sleep 600; }
for word; do case $word in
  *"copy-out /kernel "*) mkdir "\${word#*/kernel }/kernel"; exec cp "$STAND_IN/kernel.deb" "\${word#*/kernel }/kernel/linux-image.deb" ;;
  */system.tar) exec tar -cf "$word" -C "$STAND_IN/tree" . ;;
esac; done
exit 1
`;

describe("making an image", { skip }, () => {
  let place = "";
  const path = process.env["PATH"];

  before(async () => {
    place = await mkdtemp(join(tmpdir(), "build-"));
    const write = async (file: string, text: string, mode = 0o644): Promise<void> => {
      await mkdir(dirname(join(place, file)), { recursive: true });
      await writeFile(join(place, file), text, { mode });
    };
    const passed = 'STAND_IN="$(dirname "$0")/.."; export STAND_IN\n';
    await write("bin/mmdebstrap", standIn.replace("\n", `\n${passed}`), 0o755);
    const tree = ["perl", "sh"].map((name) => `tree/usr/bin/${name}`);
    const library = `tree/usr/lib/${triplet}`;
    tree.push(`${library}/libc.so.6`, `${library}/libcrypt.so.1`, `${library}/perl-base/strict.pm`);
    tree.push(`${library}/ld-linux-${process.arch === "arm64" ? "aarch64.so.1" : "x86-64.so.2"}`);
    for (const file of tree) await write(file, `this is ${file}\n`, 0o755);
    const status =
      "Package: hello\nStatus: install ok installed\nVersion: 1.2\nInstalled-Size: 3\n";
    await write("tree/var/lib/dpkg/status", status);
    await symlink("usr/bin", join(place, "tree/bin"));
    await write("deb/boot/vmlinuz-6.1.0-9-cloud", "MZ a kernel");
    await write("deb/lib/modules/6.1.0-9-cloud/modules.order", "");
    await write("deb/lib/modules/6.1.0-9-cloud/modules.builtin", "");
    await write("deb/lib/modules/6.1.0-9-cloud/modules.builtin.modinfo", "");
    const control = "Package: linux-image-6.1.0-9-cloud\nVersion: 6.1.9\nArchitecture: all\n";
    await write("deb/DEBIAN/control", `${control}Maintainer: nobody\nDescription: none\n`);
    packKernel();
    process.env["PATH"] = `${join(place, "bin")}:${path}`;
  });
  after(async () => {
    process.env["PATH"] = path;
    await rm(place, { recursive: true, force: true });
  });

  function packKernel(): void {
    const packed = spawnSync("dpkg-deb", ["-b", join(place, "deb"), join(place, "kernel.deb")]);
    assert.equal(packed.status, 0, packed.stderr.toString());
  }

  const make = (folder: string, more: Partial<ImageOptions> = {}, until = signal) => {
    const options: ImageOptions = {
      folder: join(place, folder),
      variant: "minimal",
      architecture: architecture ?? "x64",
      suite: null,
      ...more,
    };
    return buildImage(options, () => {}, until);
  };
  /** What is in a folder of images besides its lock. */
  const left = async (folder: string): Promise<string[]> =>
    (await readdir(join(place, folder))).filter((name) => name !== "lock");

  test("the same packages give the same bytes, wherever it is made", async () => {
    const one = await make("one");
    const two = await make("two");
    assert.equal(one.digest, two.digest);
    assert.deepEqual(await left("one"), [one.digest]);
    await verifyImage(one);
    assert.deepEqual(one.packages, [
      { name: "hello", version: "1.2", bytes: 3072 },
      { name: "linux-image-6.1.0-9-cloud", version: "6.1.9", bytes: 0 },
    ]);
    assert.equal(await readFile(join(one.folder, "kernel"), "utf8"), "MZ a kernel");
    const again = await make("one");
    assert.deepEqual(await left("one"), [again.digest]);
    const listed = spawnSync("unsquashfs", ["-ll", join(one.folder, "base.img")]);
    assert.match(listed.stdout.toString(), /usr\/bin\/perl/);
  });

  test("another byte in the system gives another image", async () => {
    const before = await make("three");
    await writeFile(join(place, "tree/usr/bin/sh"), "another shell\n");
    const after = await make("three");
    assert.notEqual(before.digest, after.digest);
    assert.equal(before.files.initramfs.sha256, after.files.initramfs.sha256);
    assert.deepEqual((await left("three")).sort(), [before.digest, after.digest].sort());
  });

  test("one that does not boot is not kept, nor anything of it", async () => {
    let tried = "";
    const check: ImageOptions["check"] = async (image) => {
      await verifyImage(image);
      tried = image.folder;
      throw new Error("it does not boot");
    };
    await assert.rejects(make("four", { check }), /it does not boot/);
    assert.match(tried, /\.building-/);
    assert.deepEqual(await left("four"), []);
  });

  test("what a killed build left is swept away by the next", async () => {
    await mkdir(join(place, "five/.building-0000/deep"), { recursive: true });
    const image = await make("five");
    assert.deepEqual(await left("five"), [image.digest]);
    assert.deepEqual(await readImage(image.folder), image);
  });

  test("a kernel's modules are found in usr/lib too; one without any is refused", async () => {
    await mkdir(join(place, "deb/usr"));
    await rename(join(place, "deb/lib"), join(place, "deb/usr/lib"));
    packKernel();
    assert.equal((await make("nine")).kernelRelease, "6.1.0-9-cloud");
    await rename(join(place, "deb/usr/lib/modules"), join(place, "modules"));
    packKernel();
    const refused = { kind: "invalid", message: "the kernel has no modules" };
    await assert.rejects(make("nine"), refused);
    await rename(join(place, "modules"), join(place, "deb/usr/lib/modules"));
    packKernel();
  });

  test("mmdebstrap's own words say why it failed", async (t) => {
    const words = "E: Unable to locate package hello\nE: mmdebstrap failed to run\n";
    await writeFile(join(place, "fault"), words);
    t.after(() => rm(join(place, "fault")));
    const message = /could not make the image: E: Unable to locate package hello$/;
    await assert.rejects(make("six"), { kind: "invalid", message });
    assert.deepEqual(await left("six"), []);
  });

  test("an interrupted build leaves nothing", async (t) => {
    await writeFile(join(place, "hang"), "");
    t.after(() => rm(join(place, "hang")));
    const stop = new AbortController();
    const options = { folder: join(place, "seven"), variant: "minimal", suite: null } as const;
    const heard = (line: string): void => {
      if (line.startsWith("running apt-get")) stop.abort();
    };
    const building = buildImage(
      { ...options, architecture: architecture ?? "x64" },
      heard,
      stop.signal,
    );
    await assert.rejects(building, { kind: "unreachable" });
    assert.deepEqual(await left("seven"), []);
  });

  test("one for a processor that this host cannot run says what to install", async (t) => {
    await writeFile(join(place, "bin/arch-test"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
    t.after(() => rm(join(place, "bin/arch-test")));
    const foreign = architecture === "x64" ? "arm64" : "x64";
    const message = /run programs of (arm64|amd64): apt-get install arch-test qemu-user-static/;
    await assert.rejects(make("eight", { architecture: foreign }), { kind: "invalid", message });
  });
});

describe("the release an image is made of", () => {
  const debian = {
    system: "debian",
    suite: "bookworm",
    sources: ["/etc/apt/sources.list"],
  } as const;
  const ubuntu = { system: "ubuntu", suite: "noble", sources: [] } as const;

  test("is the host's own, or another of its distribution", () => {
    assert.equal(chooseSuite(debian, null), debian);
    assert.equal(chooseSuite(debian, "bookworm"), debian);
    const trixie = { system: "debian", suite: "trixie", sources: [] };
    assert.deepEqual(chooseSuite(debian, "trixie"), trixie);
    assert.deepEqual(chooseSuite(ubuntu, "jammy").system, "ubuntu");
  });

  test("is refused in plain words where it is another distribution's", () => {
    const message =
      "noble is Ubuntu's, and this host's archive is Debian's: build the image on a host with Ubuntu";
    assert.throws(() => chooseSuite(debian, "noble"), { kind: "invalid", message });
    assert.throws(() => chooseSuite(ubuntu, "trixie"), { message: /trixie is Debian's/ });
  });

  test("is a name and nothing else", () => {
    for (const wanted of ["", "--help", "a b", "/etc", "Bookworm", "x".repeat(99)]) {
      assert.throws(() => chooseSuite(debian, wanted), { message: /named like/ }, wanted);
    }
  });
});
