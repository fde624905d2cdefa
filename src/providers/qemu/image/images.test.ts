import assert from "node:assert/strict";
import { mkdir, mkdtemp, open, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { until } from "../../conformance-world.ts";
import { findImage, listImages, pruneImages, verifyOnce } from "./images.ts";
import { digestOfFiles, manifestName, measure, parts, readImage, verifyImage } from "./manifest.ts";
import type { Files, Manifest, StoredImage } from "./manifest.ts";

const signal = new AbortController().signal;

async function shelf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "images-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** An image of a few bytes; `age` in hours. */
async function put(
  folder: string,
  content: string,
  { age = 0, ...more }: Partial<Manifest> & { age?: number } = {},
): Promise<StoredImage> {
  const draft = join(folder, "draft");
  await mkdir(draft);
  for (const part of parts) await writeFile(join(draft, part), `${part} ${content}`);
  const measured = await Promise.all(parts.map((part) => measure(join(draft, part))));
  const files = Object.fromEntries(parts.map((part, i) => [part, measured[i]])) as Files;
  const digest = digestOfFiles(files);
  const manifest: Manifest = {
    version: 1,
    digest,
    architecture: "x64",
    variant: "minimal",
    system: "debian",
    suite: "bookworm",
    recipe: 1,
    kernelRelease: "6.1.0",
    packages: [],
    files,
    ...more,
  };
  const place = join(folder, digest);
  await mkdir(place);
  for (const part of parts) await writeFile(join(place, part), `${part} ${content}`);
  await writeFile(join(place, manifestName), JSON.stringify(manifest));
  const made = new Date(Date.now() - age * 3_600_000);
  await utimes(join(place, manifestName), made, made);
  await rm(draft, { recursive: true });
  return readImage(place);
}

/** Turns one bit of one byte over; the file's size and name stay. */
async function damage(path: string, at: number): Promise<void> {
  const file = await open(path, "r+");
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, at);
  await file.write(Buffer.from([buffer[0]! ^ 1]), 0, 1, at);
  await file.close();
}

describe("images on disk", () => {
  test("the newest of a variant is found, or one by its digest", async (t) => {
    const folder = await shelf(t);
    const old = await put(folder, "old", { age: 2 });
    const young = await put(folder, "young", { age: 1 });
    const runner = await put(folder, "runner", { variant: "runner" });
    const arm = await put(folder, "arm", { architecture: "arm64" });
    const found = async (ref: string, architecture: "x64" | "arm64" | null) =>
      (await findImage(folder, ref, architecture)).digest;
    assert.equal(await found("minimal", "x64"), young.digest);
    assert.equal(await found("minimal", "arm64"), arm.digest);
    assert.equal(await found("runner", "x64"), runner.digest);
    assert.equal(await found(old.digest.slice(0, 12), "x64"), old.digest);
    assert.equal(await found(arm.digest, null), arm.digest);
    const digests = (await listImages(folder)).images.map(({ digest }) => digest);
    assert.deepEqual(digests.slice(-2), [young.digest, old.digest]);
  });

  test("one that is not there is told with what to do", async (t) => {
    const folder = await shelf(t);
    await put(folder, "x");
    const words = [
      ["runner", "x64", /build one: mayfly image build --variant runner --arch x64$/],
      [
        "minimal",
        "arm64",
        /for arm64; build one: mayfly image build --variant minimal --arch arm64/,
      ],
      ["ubuntu", "x64", /no image "ubuntu" for x64; build one: mayfly image build --arch x64/],
      ["abc", "x64", /no image "abc"/],
      ["../../etc", "x64", /no image/],
    ] as const;
    for (const [ref, architecture, message] of words) {
      await assert.rejects(findImage(folder, ref, architecture), { kind: "invalid", message });
    }
    await assert.rejects(findImage(join(folder, "none"), "minimal", "x64"), { kind: "invalid" });
  });

  test("any single byte that is another is noticed", async (t) => {
    const folder = await shelf(t);
    const image = await put(folder, "sound");
    await verifyImage(image);
    for (const part of parts) {
      const path = join(image.folder, part);
      for (const at of [0, image.files[part].bytes - 1]) {
        await damage(path, at);
        const message = new RegExp(`${part.replace(".", "\\.")} is damaged; .*mayfly image`);
        await assert.rejects(verifyImage(image), { kind: "invalid", message });
        await damage(path, at);
        await verifyImage(image);
      }
    }
    await rm(join(image.folder, "kernel"));
    await assert.rejects(verifyImage(image), { kind: "invalid", message: /cannot be read/ });
  });

  test("also by the check that remembers what was sound, with the dates put back", async (t) => {
    const folder = await shelf(t);
    const image = await put(folder, "sound");
    await verifyOnce(image);
    await verifyOnce(image);
    const path = join(image.folder, "base.img");
    const before = new Date(1_700_000_000_000);
    await utimes(path, before, before);
    await verifyOnce(image);
    // Before Linux 6.13 a file's times are those of the kernel's last tick, milliseconds ago.
    const probe = join(folder, "probe");
    await until("a tick", async () => {
      await writeFile(probe, "");
      return (await stat(probe)).ctimeMs > (await stat(path)).ctimeMs;
    });
    await damage(path, 3);
    await utimes(path, before, before);
    await assert.rejects(verifyOnce(image), { kind: "invalid", message: /base\.img is damaged/ });
    await assert.rejects(verifyOnce(image), { kind: "invalid" });
  });

  test("a manifest that is none, or another's, is told and harms no other", async (t) => {
    const folder = await shelf(t);
    const sound = await put(folder, "sound");
    const other = await put(folder, "other");
    const manifests = ["", "{", "{}", "[]", JSON.stringify({ ...other, digest: sound.digest })];
    for (const text of manifests) {
      await writeFile(join(other.folder, manifestName), text);
      await assert.rejects(readImage(other.folder), { kind: "invalid" });
      const { images, damaged } = await listImages(folder);
      assert.deepEqual(
        images.map(({ digest }) => digest),
        [sound.digest],
      );
      assert.deepEqual(
        damaged.map((one) => one.folder),
        [other.folder],
      );
    }
    const { digest: _, ...moved } = { ...sound };
    await writeFile(
      join(other.folder, manifestName),
      JSON.stringify({ ...moved, digest: sound.digest }),
    );
    const { damaged } = await listImages(folder);
    assert.deepEqual(damaged, [{ folder: other.folder, reason: "its manifest is another's" }]);
  });

  test("pruning keeps the newest sound one of each kind", async (t) => {
    const folder = await shelf(t);
    const old = await put(folder, "old", { age: 3 });
    const kept = await put(folder, "kept", { age: 2 });
    const broken = await put(folder, "broken", { age: 1 });
    await damage(join(broken.folder, "base.img"), 0);
    const arm = await put(folder, "arm", { architecture: "arm64", age: 9 });
    await mkdir(join(folder, ".building-1234"));
    await writeFile(join(folder, ".building-1234", "half"), "12345");
    await writeFile(join(folder, "notes"), "mine");
    const going = [old.folder, broken.folder, join(folder, ".building-1234")].sort();
    const options = { all: false, dryRun: true, signal };
    const planned = await pruneImages(folder, options);
    assert.deepEqual([...planned.removed].sort(), going);
    assert.ok(planned.bytes > 5);
    assert.equal((await listImages(folder)).images.length, 4);
    assert.deepEqual(await pruneImages(folder, { ...options, dryRun: false }), planned);
    assert.deepEqual(
      (await readdir(folder)).sort(),
      [kept.digest, arm.digest, "lock", "notes"].sort(),
    );
    await pruneImages(folder, { all: true, dryRun: false, signal });
    assert.deepEqual((await readdir(folder)).sort(), ["lock", "notes"]);
    const none = await pruneImages(join(folder, "none"), options);
    assert.deepEqual(none, { removed: [], bytes: 0 });
  });
});
