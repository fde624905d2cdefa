import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { create, list } from "tar";
import { NativeSources } from "./sources.ts";

const now = 1_800_000_000_000;
let root = "";
let repository = "";
let first = "";
let second = "";

function git(folder: string, ...args: string[]): string {
  const env = {
    PATH: process.env["PATH"],
    HOME: root,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_AUTHOR_NAME: "a",
    GIT_AUTHOR_EMAIL: "a@example.com",
    GIT_COMMITTER_NAME: "a",
    GIT_COMMITTER_EMAIL: "a@example.com",
  };
  return execFileSync("git", ["-C", folder, ...args], { env, stdio: ["ignore", "pipe", "pipe"] })
    .toString()
    .trim();
}

before(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "mayfly-sources-")));
  repository = join(root, "repositories", "rocket");
  mkdirSync(join(repository, "deep"), { recursive: true });
  git(repository, "init", "-q", "-b", "main");
  writeFileSync(join(repository, "deep", "file"), "one\n");
  writeFileSync(join(repository, "run"), "#!/bin/sh\n");
  chmodSync(join(repository, "run"), 0o755);
  writeFileSync(join(repository, "left-out"), "needed by tests\n");
  writeFileSync(join(repository, "stamp"), "$Format:%H$\n");
  writeFileSync(join(repository, ".gitattributes"), "left-out export-ignore\nstamp export-subst\n");
  symlinkSync("/nowhere/outside", join(repository, "outer"));
  git(repository, "add", "-A");
  git(repository, "commit", "-q", "-m", "one");
  first = git(repository, "rev-parse", "HEAD");
  git(repository, "tag", "-a", "v1", "-m", "v1");
  writeFileSync(join(repository, "deep", "file"), "two\n");
  git(repository, "commit", "-q", "-a", "-m", "two");
  second = git(repository, "rev-parse", "HEAD");
  git(repository, "branch", "feature/a");
  writeFileSync(join(repository, "deep", "file"), "dirty\n");
});

after(() => rmSync(root, { recursive: true, force: true }));

let states = 0;

function open(): { sources: NativeSources; state: string } {
  const state = join(root, `state-${states++}`);
  const policy = { schemes: ["https", "ssh", "git", "http"], paths: [join(root, "repositories")] };
  return { sources: new NativeSources({ folder: state, policy, now: () => now }), state };
}

/** Paths of an archive's entries, and the text of the files. */
async function unpacked(stream: Readable): Promise<Map<string, string>> {
  const entries = new Map<string, string>();
  const reading = list({
    onReadEntry: (entry) => {
      const chunks: Buffer[] = [];
      entry.on("data", (chunk: Buffer) => chunks.push(chunk));
      entry.on("end", () => entries.set(entry.path, Buffer.concat(chunks).toString()));
    },
  });
  for await (const chunk of stream) reading.write(chunk as Buffer);
  reading.end();
  return entries;
}

describe("a repository", () => {
  test("is fetched by branch, tag, HEAD and commit, ignoring a dirty work tree", async () => {
    const { sources } = open();
    for (const [revision, commit, text] of [
      ["main", second, "two\n"],
      ["feature/a", second, "two\n"],
      ["refs/heads/main", second, "two\n"],
      ["HEAD", second, "two\n"],
      ["v1", first, "one\n"],
      [first, first, "one\n"],
      [second, second, "two\n"],
    ] as const) {
      const fetched = await sources.fetch(repository, revision);
      assert.equal(fetched.commit, commit, revision);
      assert.equal(fetched.tree, git(repository, "rev-parse", `${commit}^{tree}`));
      const entries = await unpacked(await sources.open(fetched.sha256));
      assert.equal(entries.get("deep/file"), text);
    }
  });

  test("comes whole: attributes for releases leave nothing out and change nothing", async () => {
    const { sources } = open();
    const { sha256 } = await sources.fetch(repository, "main");
    const entries = await unpacked(await sources.open(sha256));
    assert.equal(entries.get("left-out"), "needed by tests\n");
    assert.equal(entries.get("stamp"), "$Format:%H$\n");
    assert.ok(entries.has("outer"));
  });

  test("gives the same archive for the same commit", async () => {
    const one = await open().sources.fetch(repository, "main");
    const two = await open().sources.fetch(repository, second);
    assert.equal(one.sha256, two.sha256);
  });

  test("that is fetched by many at once is fetched by one after the other", async () => {
    const { sources } = open();
    const all = await Promise.all(
      Array.from({ length: 8 }, (_, i) => sources.fetch(repository, i % 2 === 0 ? "main" : "v1")),
    );
    assert.deepEqual(
      all.map(({ commit }) => commit),
      all.map((_, i) => (i % 2 === 0 ? second : first)),
    );
  });

  test("without that revision says which", async () => {
    const { sources, state } = open();
    for (const revision of ["nowhere", "0123456789".repeat(4), first.slice(0, 10)]) {
      await assert.rejects(
        sources.fetch(repository, revision),
        (error: Error & { code?: string; where?: string }) => {
          assert.equal(error.code, "not_found", error.message);
          assert.equal(error.where, "source.revision");
          assert.ok(error.message.includes(revision), error.message);
          return true;
        },
      );
    }
    assert.deepEqual(readdirSync(join(state, "sources")), []);
  });

  test("that is none says so", async () => {
    const { sources } = open();
    mkdirSync(join(root, "repositories", "empty"), { recursive: true });
    await assert.rejects(sources.fetch(join(root, "repositories", "empty"), "main"), {
      code: "not_found",
      where: "source.url",
    });
    await assert.rejects(sources.fetch("https://127.0.0.1:1/x", "main"), {
      code: "unavailable",
      where: "source.url",
    });
  });

  test("that is shallow itself can be fetched", async () => {
    const shallow = join(root, "repositories", "shallow");
    git(root, "clone", "-q", "--depth=1", `file://${repository}`, shallow);
    const { commit } = await open().sources.fetch(shallow, "main");
    assert.equal(commit, second);
  });

  test("runs nothing of its own: no hook, no configured program", async () => {
    const hostile = join(root, "repositories", "hostile");
    git(root, "clone", "-q", repository, hostile);
    const marker = join(root, "marker");
    const script = `#!/bin/sh\ntouch ${marker}\n`;
    for (const hook of ["post-checkout", "pre-auto-gc", "reference-transaction", "post-update"]) {
      writeFileSync(join(hostile, ".git", "hooks", hook), script, { mode: 0o755 });
    }
    writeFileSync(join(root, "program"), script, { mode: 0o755 });
    git(hostile, "config", "core.fsmonitor", join(root, "program"));
    git(hostile, "config", "uploadpack.packObjectsHook", join(root, "program"));
    git(hostile, "config", "core.sshCommand", join(root, "program"));
    rmSync(marker, { force: true });
    await open().sources.fetch(hostile, "main");
    assert.equal(existsSync(marker), false);
  });

  test("that lacks objects is not completed by its own commands", async () => {
    const partial = join(root, "repositories", "partial");
    cpSync(repository, partial, { recursive: true, verbatimSymlinks: true });
    git(partial, "remote", "add", "origin", repository);
    const blob = git(partial, "rev-parse", "HEAD:deep/file");
    rmSync(join(partial, ".git", "objects", blob.slice(0, 2), blob.slice(2)), { force: true });
    const marker = join(root, "marker3");
    git(partial, "config", "core.repositoryFormatVersion", "1");
    git(partial, "config", "extensions.partialClone", "origin");
    git(partial, "config", "remote.origin.promisor", "true");
    git(partial, "config", "remote.origin.uploadpack", `touch ${marker};`);
    await assert.rejects(open().sources.fetch(partial, "main"), {
      code: "unavailable",
      message: /lacks objects/,
    });
    assert.equal(existsSync(marker), false);
  });

  test("whose name is hostile reaches no shell", async () => {
    const name = "$(touch marker2); `touch marker2` & 'x' \"y\"";
    const hostile = join(root, "repositories", name);
    git(root, "clone", "-q", repository, hostile);
    git(hostile, "branch", "$(touch${IFS}marker2);'\"");
    const { commit } = await open().sources.fetch(hostile, "$(touch${IFS}marker2);'\"");
    assert.equal(commit, second);
    assert.equal(existsSync(join(process.cwd(), "marker2")), false);
  });

  test("whose last fetch was killed is fetched again", async () => {
    const { sources, state } = open();
    await sources.fetch(repository, "v1");
    const [name = ""] = readdirSync(join(state, "git")).filter((one) => one.endsWith(".git"));
    const packs = join(state, "git", name, "objects", "pack");
    mkdirSync(packs, { recursive: true });
    writeFileSync(join(packs, "tmp_pack_abc"), "half");
    writeFileSync(join(state, "git", name, "shallow.lock"), "");
    assert.equal((await sources.fetch(repository, "main")).commit, second);
  });
});

describe("an upload", () => {
  function tree(): Readable {
    return Readable.from(create({ cwd: repository, portable: true }, ["deep", "run"]));
  }

  test("is kept under its digest, once", async () => {
    const { sources, state } = open();
    const one = await sources.keep(tree());
    const two = await sources.keep(tree());
    assert.deepEqual(one, two);
    assert.deepEqual(readdirSync(join(state, "sources")), [`${one.sha256}.tar`]);
    assert.equal(await sources.has(one.sha256), true);
    assert.equal(await sources.has("0".repeat(64)), false);
    const entries = await unpacked(await sources.open(one.sha256));
    assert.equal(entries.get("deep/file"), "dirty\n");
  });

  test("by gzip is the same as without", async () => {
    const { sources } = open();
    const plain = Buffer.concat(await tree().toArray());
    const one = await sources.keep(Readable.from([plain]));
    const two = await sources.keep(Readable.from([gzipSync(plain)]));
    assert.equal(one.sha256, two.sha256);
    const broken = gzipSync(plain).subarray(0, -20);
    await assert.rejects(sources.keep(Readable.from([broken])), { code: "invalid" });
  });

  test("that is refused leaves nothing", async () => {
    const { sources, state } = open();
    const hostile = Readable.from([Buffer.from("no archive at all".repeat(100))]);
    await assert.rejects(sources.keep(hostile), { code: "invalid" });
    await assert.rejects(sources.keep(Readable.from([])), { code: "invalid" });
    const cut = new Readable({ read() {} });
    cut.push(Buffer.concat(await tree().toArray()).subarray(0, 600));
    setImmediate(() => cut.destroy(new Error("reset")));
    await assert.rejects(sources.keep(cut));
    assert.deepEqual(readdirSync(join(state, "sources")), []);
  });

  test("that is forgotten is not there, and one that was just used stays", async () => {
    const { sources, state } = open();
    const { sha256 } = await sources.keep(tree());
    const path = join(state, "sources", `${sha256}.tar`);
    const old = new Date(now - 100_000);
    utimesSync(path, old, old);
    writeFileSync(join(state, "sources", ".x.new"), "cut");
    utimesSync(join(state, "sources", ".x.new"), old, old);
    const before = now - 50_000;
    const found: string[] = [];
    for await (const one of sources.olderThan(before)) found.push(one);
    assert.deepEqual(found, [sha256]);
    await sources.has(sha256);
    await sources.remove(sha256, before);
    assert.ok(existsSync(path));
    utimesSync(path, old, old);
    await sources.remove(sha256, before);
    assert.deepEqual(readdirSync(join(state, "sources")), []);
    await assert.rejects(sources.open(sha256), { code: "not_found" });
    await assert.rejects(sources.open("../../etc/passwd"), { code: "invalid" });
  });
});

test("a full disk is said, and nothing is left", async (t) => {
  const small = join(root, "small");
  mkdirSync(small);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "none", small], { stdio: "ignore" });
  } catch {
    t.skip("needs the right to mount a small file system");
    return;
  }
  t.after(() => execFileSync("umount", [small]));
  const policy = { schemes: [], paths: [] };
  const sources = new NativeSources({ folder: small, policy, now: () => now });
  const noise = join(root, "noise");
  execFileSync("sh", ["-c", `head -c 1000000 /dev/urandom >"$1"`, "sh", noise]);
  const big = Readable.from(create({ cwd: root }, ["noise"]));
  await assert.rejects(sources.keep(big), (error: Error & { code?: string }) => {
    assert.equal(error.code, "unavailable");
    assert.match(error.message, /disk is full/);
    return true;
  });
  assert.deepEqual(readdirSync(join(small, "sources")), []);
  assert.ok(readFileSync(noise).length > 0);
});
