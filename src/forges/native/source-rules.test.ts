import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { checkRevision, defaultSchemes, readAddress, type SourcePolicy } from "./source-rules.ts";

const policy: SourcePolicy = { schemes: defaultSchemes, paths: [] };

describe("a revision is refused that is", () => {
  for (const revision of [
    "",
    "-x",
    "--upload-pack=touch /tmp/x",
    "--output=/etc/passwd",
    "a..b",
    "..",
    ".hidden",
    "a/.hidden",
    "a//b",
    "/a",
    "a/",
    "a.",
    "a.lock",
    "a.lock/b",
    "@",
    "a@{1}",
    "a b",
    "a~1",
    "a^",
    "a:b",
    "+a:refs/heads/main",
    "a?",
    "a*",
    "a[b",
    "a\\b",
    "a\0b",
    "a\nb",
    "a\tb",
    "a\x7fb",
    "a\u2028b",
    "\ud800",
    "x".repeat(251),
    "x".repeat(10_000_000),
  ]) {
    test(JSON.stringify(revision.slice(0, 40)), () => {
      assert.throws(
        () => checkRevision(revision),
        (error: Error & { code?: string; where?: string }) => {
          assert.equal(error.code, "invalid");
          assert.equal(error.where, "source.revision");
          assert.ok(error.message.length < 300);
          return true;
        },
      );
    });
  }
});

describe("a revision is good that is", () => {
  for (const revision of [
    "HEAD",
    "main",
    "feature/größe",
    "refs/heads/main",
    "v1.2.3",
    "a-b_c+d#e",
    "x".repeat(250),
    "0".repeat(40),
    "$(id)",
    "`id`;&|",
    "'quoted\"",
  ]) {
    test(JSON.stringify(revision.slice(0, 40)), () => checkRevision(revision));
  }
});

describe("an address is refused that is", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["", "invalid"],
    ["-x", "invalid"],
    ["--upload-pack=touch /tmp/x", "invalid"],
    ["ext::sh -c 'touch /tmp/x'", "invalid"],
    ["fd::17/foo", "invalid"],
    ["file:///etc", "invalid"],
    ["file://host/etc", "forbidden"],
    ["http://example.com/x", "forbidden"],
    ["ftp://example.com/x", "forbidden"],
    ["javascript://example.com/x", "forbidden"],
    ["https://user:password@example.com/x", "invalid"],
    ["https://token@example.com/x", "invalid"],
    ["ssh://git:password@example.com/x", "invalid"],
    ["https://", "invalid"],
    ["https:///x", "invalid"],
    ["ssh://%2Doption@example.com/x", "invalid"],
    ["ssh://-oProxyCommand=touch%20x/x", "invalid"],
    ["ssh://-l@example.com/x", "invalid"],
    ["-oProxyCommand=x@example.com:x", "invalid"],
    ["git@-oProxyCommand=x:path", "invalid"],
    ["relative/path", "invalid"],
    ["./relative", "invalid"],
    ["../up", "invalid"],
    ["/etc", "forbidden"],
    ["https://example.com/a\nb", "invalid"],
    ["https://example.com/a\0b", "invalid"],
    [`https://example.com/${"x".repeat(2000)}`, "invalid"],
    ["x".repeat(10_000_000), "invalid"],
  ];
  for (const [address, code] of cases) {
    test(JSON.stringify(address.slice(0, 50)), async () => {
      await assert.rejects(
        readAddress(address, policy),
        (error: Error & { code?: string; where?: string }) => {
          assert.ok(
            error.code === code || (code === "forbidden" && error.code === "invalid"),
            error.code,
          );
          assert.equal(error.where, "source.url");
          assert.ok(error.message.length < 300);
          return true;
        },
      );
    });
  }
});

describe("an address is read that is", () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ["https://example.com/a/b.git", "https://example.com/a/b.git", "https"],
    ["HTTPS://Example.com/A", "https://example.com/A", "https"],
    ["ssh://git@example.com:2222/a", "ssh://git@example.com:2222/a", "ssh"],
    ["git@example.com:a/b.git", "ssh://git@example.com/a/b.git", "ssh"],
    ["git@example.com:/a/b.git", "ssh://git@example.com/a/b.git", "ssh"],
    ["git://example.com/a", "git://example.com/a", "git"],
    ["https://[::1]:8443/a", "https://[::1]:8443/a", "https"],
  ];
  for (const [address, text, protocol] of cases) {
    test(address, async () => {
      assert.deepEqual(await readAddress(address, policy), { text, protocol });
    });
  }
});

describe("a path", () => {
  let root = "";
  before(() => {
    root = realpathSync(mkdtempSync(join(tmpdir(), "mayfly-paths-")));
    for (const name of ["allowed/repo", "allowed-not/repo", "outside"]) {
      mkdirSync(join(root, name), { recursive: true });
    }
    symlinkSync(join(root, "outside"), join(root, "allowed", "escape"));
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  test("below an allowed folder is read, and no other", async () => {
    const some: SourcePolicy = { schemes: [], paths: [join(root, "allowed")] };
    const read = (name: string) => readAddress(join(root, name), some);
    assert.deepEqual(await read("allowed/repo"), {
      text: join(root, "allowed/repo"),
      protocol: "file",
    });
    assert.equal((await read("allowed")).text, join(root, "allowed"));
    assert.equal((await read("allowed/../allowed/repo")).text, join(root, "allowed/repo"));
    for (const name of [
      "allowed-not/repo",
      "outside",
      "allowed/../outside",
      "allowed/escape",
      "nowhere",
    ]) {
      await assert.rejects(read(name), { code: "forbidden" }, name);
    }
    await assert.rejects(read("allowed/nothing"), { code: "not_found" });
  });
});
