import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { slimModule, unpackKernel } from "./kernel.ts";
import { unpackLegacyLz4 } from "./lz4.ts";

/** A bzImage around a payload, as its header describes it (boot protocol 2.15, one setup sector). */
function bzImage(payload: Buffer): Buffer {
  const head = Buffer.alloc(1024);
  head[0x1f1] = 1;
  head.write("HdrS", 0x202, "latin1");
  head.writeUInt16LE(0x20f, 0x206);
  head.writeUInt32LE(0, 0x248);
  head.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([head, payload, Buffer.alloc(100, 7)]);
}

const kernel = Buffer.concat([Buffer.from("\x7fELF", "latin1"), Buffer.alloc(50_000, "kernel ")]);
/** The kernel's build appends the unpacked size. */
const size = Buffer.alloc(4);
size.writeUInt32LE(kernel.length);

function u32(...numbers: number[]): Buffer {
  const bytes = Buffer.alloc(4 * numbers.length);
  numbers.forEach((number, i) => bytes.writeUInt32LE(number, 4 * i));
  return bytes;
}

/** An LZ4 block: literals, then perhaps a copy, again and again. */
function lz4Block(parts: readonly { literals: Uint8Array; copy?: [number, number] }[]): Buffer {
  const out: number[] = [];
  const rest = (length: number): void => {
    for (let left = length - 15; left >= 0; left -= 255) out.push(Math.min(left, 255));
  };
  for (const { literals, copy } of parts) {
    const more = copy === undefined ? 0 : copy[1] - 4;
    out.push((Math.min(literals.length, 15) << 4) | Math.min(more, 15));
    rest(literals.length);
    out.push(...literals);
    if (copy === undefined) continue;
    out.push(copy[0] & 255, copy[0] >> 8);
    rest(more);
  }
  return Buffer.from(out);
}

function legacy(...blocks: Buffer[]): Buffer {
  return Buffer.concat([u32(0x184c2102), ...blocks.flatMap((one) => [u32(one.length), one])]);
}

describe("a kernel's image", () => {
  test("is unpacked, however it was packed", () => {
    const literal = lz4Block([{ literals: kernel }]);
    const packed = {
      gzip: Buffer.concat([gzipSync(kernel), size]),
      zstd: Buffer.concat([zstdCompressSync(kernel), size]),
      lz4: Buffer.concat([legacy(literal), size]),
    };
    for (const [how, payload] of Object.entries(packed)) {
      assert.ok(unpackKernel(bzImage(payload)).equals(kernel), how);
    }
  });

  test("is left as it is where it cannot be unpacked", () => {
    const strange = bzImage(Buffer.from("another way of packing"));
    assert.equal(unpackKernel(strange), strange);
    const noElf = bzImage(Buffer.concat([gzipSync("no kernel"), size]));
    assert.equal(unpackKernel(noElf), noElf);
    const arm64 = Buffer.alloc(4096, "MZ");
    assert.equal(unpackKernel(arm64), arm64);
    assert.equal(unpackKernel(Buffer.alloc(0)).length, 0);
  });
});

describe("LZ4", () => {
  test("copies what was there, also what it has just written", () => {
    const block = lz4Block([
      { literals: Buffer.from("ab"), copy: [2, 300] },
      { literals: Buffer.from("!"), copy: [3, 4] },
      { literals: Buffer.from("end.") },
    ]);
    assert.equal(unpackLegacyLz4(legacy(block)).toString(), `${"ab".repeat(151)}!ab!aend.`);
  });

  test("gives back any literals, in any blocks", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 700 })), (all) => {
        const blocks = all.map((literals) => lz4Block([{ literals }]));
        assert.deepEqual(unpackLegacyLz4(legacy(...blocks)), Buffer.concat(all));
      }),
    );
  });

  test("refuses rubbish with a RangeError, and never hangs", () => {
    const good = legacy(lz4Block([{ literals: Buffer.from("abcdefgh"), copy: [8, 40] }]));
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(good.length), (at, to, cut) => {
        const bad = Buffer.from(good);
        bad[at] = to;
        for (const one of [bad, bad.subarray(0, cut)]) {
          try {
            unpackLegacyLz4(one);
          } catch (error) {
            assert.ok(error instanceof RangeError, String(error));
          }
        }
      }),
    );
    const nowhere = legacy(lz4Block([{ literals: Buffer.from("a"), copy: [9, 4] }]));
    assert.throws(() => unpackLegacyLz4(nowhere), RangeError);
  });
});

describe("a module", () => {
  const signed = (body: string, signature: string): Buffer => {
    const info = Buffer.alloc(12);
    info.writeUInt32BE(signature.length, 8);
    return Buffer.concat([
      Buffer.from(body + signature),
      info,
      Buffer.from("~Module signature appended~\n"),
    ]);
  };

  test("loses its signature and the name of its type information", () => {
    const slim = slimModule(signed("code\0.text\0.BTF\0.data", "sign here"));
    assert.equal(slim.toString(), "code\0.text\0.xTF\0.data");
  });

  test("without either is left as it is", () => {
    assert.equal(slimModule(Buffer.from("code")).toString(), "code");
    assert.equal(slimModule(Buffer.alloc(0)).length, 0);
  });
});
