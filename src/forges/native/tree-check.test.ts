import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import { Header, type HeaderData } from "tar";
import { TreeCheck, type TreeLimits } from "./tree-check.ts";

const limits: TreeLimits = { entriesMax: 50, bytesMax: 100_000, outerLinks: "refuse" };

/** An archive of these entries, each with as many bytes as it says, or as `body` says. */
function archive(...entries: readonly (HeaderData & { readonly body?: string })[]): Buffer {
  const blocks = entries.flatMap(({ body = "", ...data }) => {
    const header = Buffer.alloc(512);
    new Header({ mode: 0o644, size: body.length, type: "File", ...data }).encode(header);
    const content = Buffer.alloc(Math.ceil(body.length / 512) * 512);
    content.write(body);
    return [header, content];
  });
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

function check(bytes: Uint8Array, changes: Partial<TreeLimits> = {}, piece = 700): void {
  const checking = new TreeCheck({ ...limits, ...changes });
  for (let at = 0; at < bytes.length; at += piece) checking.write(bytes.subarray(at, at + piece));
  checking.end();
}

const link = (path: string, linkpath: string): HeaderData => ({
  path,
  linkpath,
  type: "SymbolicLink",
});
const hard = (path: string, linkpath: string): HeaderData => ({ path, linkpath, type: "Link" });
const file = (path: string, body = "x"): HeaderData & { body: string } => ({ path, body });
const folder = (path: string): HeaderData => ({ path, type: "Directory" });

describe("an archive is refused when it", () => {
  const cases: readonly (readonly [string, readonly HeaderData[], RegExp])[] = [
    ["climbs out by ..", [file("../evil")], /does not lie below/],
    ["climbs out in the middle", [file("a/../../evil")], /does not lie below/],
    ["climbs within, too", [file("a/../b")], /does not lie below/],
    ["is absolute", [file("/etc/passwd")], /does not lie below/],
    ["replaces the root", [file(".")], /something else/],
    ["links to an absolute path", [link("l", "/etc/passwd")], /outside/],
    ["links out", [link("a/l", "../../x")], /outside/],
    ["links to the folder above", [link("l", "..")], /outside/],
    ["writes through a link", [folder("d"), link("l", "d"), file("l/x")], /is a link/],
    ["turns a folder into a link", [file("d/x"), link("d", "e")], /something else/],
    ["turns a link into a file", [link("l", "x"), file("l")], /something else/],
    ["turns a link into a folder", [link("l", "x"), folder("l/")], /link already/],
    ["links twice", [link("l", "a"), link("l", "b")], /something else/],
    ["turns a file into a folder", [file("f"), file("f/x")], /is a file/],
    ["hard-links to what is outside", [hard("h", "/etc/passwd")], /no file of the archive/],
    ["hard-links upwards", [hard("h", "../x")], /no file of the archive/],
    ["hard-links to what comes later", [hard("h", "f"), file("f")], /no file of the archive/],
    ["hard-links to a link", [link("l", "f"), hard("h", "l")], /no file of the archive/],
    ["holds a device", [{ path: "d", type: "CharacterDevice" }], /CharacterDevice/],
    ["holds a disk", [{ path: "d", type: "BlockDevice" }], /BlockDevice/],
    ["holds a pipe", [{ path: "p", type: "FIFO" }], /FIFO/],
    ["says it is sparse", [{ path: "s", type: "SparseFile" }], /refused/],
    ["holds nothing", [], /empty|Unrecognized/],
    ["has too many entries", Array.from({ length: 51 }, (_, i) => file(`f${i}`)), /more than 50/],
  ];
  for (const [name, entries, reason] of cases) {
    test(name, () => {
      assert.throws(
        () => check(archive(...entries)),
        (error: Error & { code?: string }) => {
          assert.match(error.message, reason);
          assert.ok(error.code === "invalid" || error.code === "too_large");
          return true;
        },
      );
    });
  }

  test("claims 10 GB, before they come", () => {
    const checking = new TreeCheck(limits);
    const claim = archive({ path: "big", size: 10 * 1024 ** 3 }).subarray(0, 512);
    assert.throws(() => checking.write(claim), { code: "too_large" });
  });

  test("is cut", () => {
    const whole = archive(file("a", "a".repeat(3000)));
    assert.throws(() => check(whole.subarray(0, 1500)), { code: "invalid" });
  });

  test("is no archive", () => {
    assert.throws(() => check(Buffer.from("hello ".repeat(500))), { code: "invalid" });
    assert.throws(() => check(Buffer.alloc(0)), { code: "invalid" });
  });

  test("has a broken checksum", () => {
    const bytes = archive(file("a"), file("b"));
    bytes[1024 + 3] = 0x41;
    assert.throws(() => check(bytes), { code: "invalid" });
  });

  test("is compressed", () => {
    for (const magic of ["28b52ffd", "fd377a585a00", "425a6839", "504b0304", "1f8b0800"]) {
      const bytes = Buffer.concat([Buffer.from(magic, "hex"), Buffer.alloc(2000)]);
      assert.throws(() => check(bytes), /compressed/);
    }
  });
});

describe("an archive is good when it", () => {
  test("holds files, folders and links within", () => {
    check(
      archive(
        folder("./"),
        folder("./a/"),
        file("./a/f", "hello"),
        link("./a/l", "../b/none"),
        link("root", "."),
        file("e", ""),
        hard("h", "a/f"),
        file("a/f", "again"),
      ),
    );
  });

  test("holds links that lead out, where those are allowed", () => {
    check(archive(link("l", "/dev/null"), link("m", "../../x")), { outerLinks: "allow" });
    assert.throws(() => check(archive(link("l", "/"), file("l/x")), { outerLinks: "allow" }));
  });
});

describe("archives as programs make them", () => {
  let place = "";
  before(() => {
    place = mkdtempSync(join(tmpdir(), "mayfly-tar-"));
    const deep = join(place, "tree", "d".repeat(100), "e".repeat(100), "ü €");
    mkdirSync(deep, { recursive: true });
    writeFileSync(join(deep, "f".repeat(120)), "content");
    symlinkSync(`./${"f".repeat(120)}`, join(deep, "link"));
    execFileSync("ln", [join(deep, "f".repeat(120)), join(deep, "hard")]);
  });
  after(() => rmSync(place, { recursive: true, force: true }));

  for (const format of ["gnu", "pax", "ustar", "posix", "oldgnu"]) {
    test(`GNU tar, ${format}`, () => {
      const tree = join(place, format === "ustar" ? "tree2" : "tree");
      mkdirSync(join(place, "tree2", "short"), { recursive: true });
      writeFileSync(join(place, "tree2", "short", "file"), "content");
      check(execFileSync("tar", ["-c", `--format=${format}`, "-C", tree, "."]));
    });
  }

  test("GNU tar, sparse, is refused", () => {
    const sparse = join(place, "sparse");
    execFileSync("truncate", ["-s", "1G", sparse]);
    for (const format of ["gnu", "pax"]) {
      const args = ["-c", "-S", `--format=${format}`, "-C", place, "sparse"];
      const bytes = execFileSync("tar", args);
      if (format === "gnu") assert.throws(() => check(bytes));
      // In pax the hole is text in a header, and the file is what is really there.
      else check(bytes);
    }
  });
});

test("whatever the bytes are, it decides", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 3000 }), fc.nat(2000), (noise, at) => {
      const bytes = archive(file("a", "a".repeat(600)), link("l", "a"), file("b"));
      bytes.set(noise.subarray(0, bytes.length - at), at);
      try {
        check(bytes, {}, 512);
      } catch (error) {
        assert.match(String((error as { code?: string }).code), /invalid|too_large/);
      }
    }),
  );
});
