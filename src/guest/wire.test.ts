import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  batchBytesMax,
  encodeFrames,
  encodePairs,
  frameBytesMax,
  parseFrames,
  type Frame,
} from "./wire.ts";

const frame = fc.record({
  seq: fc.nat(),
  at: fc.integer({ min: 0, max: 4_000_000_000_000 }),
  stream: fc.constantFrom("stdout", "stderr", "mayfly"),
  bytes: fc.uint8Array({ maxLength: 300 }),
}) as fc.Arbitrary<Frame>;

function plain(frames: readonly Frame[]): unknown {
  return frames.map(({ bytes, ...rest }) => ({
    ...rest,
    bytes: Buffer.from(bytes).toString("hex"),
  }));
}

describe("frames", () => {
  test("come out as they went in", () => {
    fc.assert(
      fc.property(fc.array(frame, { maxLength: 20 }), (frames) => {
        assert.deepEqual(plain(parseFrames(encodeFrames(frames))), plain(frames));
      }),
    );
  });

  test("that are cut anywhere but between two are refused, never misread", () => {
    fc.assert(
      fc.property(fc.array(frame, { minLength: 1, maxLength: 5 }), fc.nat(), (frames, cut) => {
        const whole = encodeFrames(frames);
        const part = whole.subarray(0, cut % whole.length);
        let parsed: Frame[];
        try {
          parsed = parseFrames(part);
        } catch (error) {
          assert.match(String(error), /malformed/);
          return;
        }
        assert.deepEqual(plain(parsed), plain(frames.slice(0, parsed.length)));
        assert.equal(encodeFrames(parsed).length, part.length);
      }),
    );
  });

  test("of any bytes at all are read or refused, and nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
        try {
          parseFrames(bytes);
        } catch (error) {
          assert.equal((error as { code?: string }).code, "invalid");
        }
      }),
    );
  });

  for (const [name, text] of [
    ["a negative length", "1 2 stdout -1\n"],
    ["an unknown stream", "1 2 stdin 1\nx"],
    ["a sequence number that is none", "x 2 stdout 1\nx"],
    ["a fraction", "1.5 2 stdout 1\nx"],
    ["a length beyond its bytes", "1 2 stdout 5\nx"],
    [
      "a length beyond the bound",
      `1 2 stdout ${frameBytesMax + 1}\n${"x".repeat(frameBytesMax + 1)}`,
    ],
    ["a head without an end", "1".repeat(100)],
    ["two spaces", "1  2 stdout 1\nx"],
    ["a number too large", "9999999999999999 2 stdout 1\nx"],
  ] as const) {
    test(`with ${name} are refused`, () => {
      assert.throws(() => parseFrames(Buffer.from(text)), { code: "invalid" });
    });
  }

  test("that are too many are refused", () => {
    const many = Buffer.from("1 1 stdout 0\n".repeat(batchBytesMax / 13));
    assert.throws(() => parseFrames(many), { code: "too_large" });
  });
});

test("pairs are read by the guest as they were written", () => {
  const script = `
    use lib '${import.meta.dirname}'; use Wire;
    my $pairs = Wire::read_pairs(do { local $/; <STDIN> });
    for my $name (sort keys %$pairs) { print "$name\\0$_\\0" for @{ $pairs->{$name} } }`;
  fc.assert(
    fc.property(
      fc.array(
        fc.string({ unit: "binary", maxLength: 50 }).filter((text) => !text.includes("\0")),
        { maxLength: 10 },
      ),
      (values) => {
        const input = encodePairs({ arg: values, job: "j" });
        const output = execFileSync("perl", ["-e", script], { input }).toString();
        assert.deepEqual(output.split("\0").slice(0, -1), [
          ...values.flatMap((value) => ["arg", value]),
          "job",
          "j",
        ]);
      },
    ),
    { numRuns: 20 },
  );
});
