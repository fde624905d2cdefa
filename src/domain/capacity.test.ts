import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { excess, fits, parseSize, sizeFor, sizeText } from "./capacity.ts";
import { MayflyError } from "./errors.ts";
import { sampleSize } from "./samples.ts";
import type { Size } from "./size.ts";

const sizes: fc.Arbitrary<Size> = fc.record({
  cpu: fc.integer({ min: 1, max: 1024 }),
  memoryMb: fc.integer({ min: 1, max: 1_000_000 }),
  diskGb: fc.integer({ min: 1, max: 10_000 }),
  gpu: fc.integer({ min: 0, max: 8 }),
  architecture: fc.constantFrom("x64" as const, "arm64" as const),
});

test("a request changes what it asks for and nothing else", () => {
  assert.deepEqual(sizeFor({}, sampleSize), sampleSize);
  assert.deepEqual(sizeFor({ cpu: 8, architecture: "arm64", runId: "1" }, sampleSize), {
    ...sampleSize,
    cpu: 8,
    architecture: "arm64",
  });
});

test("what is too large is said with both numbers", () => {
  assert.equal(excess(sampleSize, sampleSize), null);
  assert.equal(excess({ ...sampleSize, cpu: 32 }, sampleSize), "32 cpu asked, 2 at most");
  assert.equal(
    excess({ ...sampleSize, memoryMb: 5000 }, sampleSize),
    "5000 MB memory asked, 4 GB at most",
  );
  assert.equal(
    excess({ ...sampleSize, diskGb: 21 }, sampleSize),
    "21 GB disk asked, 20 GB at most",
  );
  assert.equal(excess({ ...sampleSize, gpu: 1 }, sampleSize), "1 gpu asked, 0 at most");
});

test("fitting is an order: what fits a smaller machine fits every larger one", () => {
  fc.assert(
    fc.property(sizes, sizes, sizes, (a, b, c) => {
      const larger: Size = {
        cpu: Math.max(b.cpu, c.cpu),
        memoryMb: Math.max(b.memoryMb, c.memoryMb),
        diskGb: Math.max(b.diskGb, c.diskGb),
        gpu: Math.max(b.gpu, c.gpu),
        architecture: b.architecture,
      };
      assert.ok(fits(a, a));
      assert.ok(fits(b, larger));
      if (fits(a, b)) assert.ok(fits(a, larger));
    }),
  );
});

test("a size reads as a sentence would have it", () => {
  assert.equal(sizeText(sampleSize), "2 cpu, 4 GB, 20 GB disk, x64");
  assert.equal(sizeText({ ...sampleSize, gpu: 1 }), "2 cpu, 4 GB, 20 GB disk, 1 gpu, x64");
  const odd: Size = { cpu: 1, memoryMb: 1500, diskGb: 5, gpu: 2, architecture: "arm64" };
  assert.equal(sizeText(odd), "1 cpu, 1500 MB, 5 GB disk, 2 gpu, arm64");
});

test("a configured size uses the label grammar over a base", () => {
  assert.deepEqual(parseSize("4cpu8gb", sampleSize), { ...sampleSize, cpu: 4, memoryMb: 8192 });
  const large: Size = { cpu: 8, memoryMb: 16384, diskGb: 80, gpu: 0, architecture: "arm64" };
  assert.deepEqual(parseSize(" large  arm64 ", sampleSize), large);
  assert.deepEqual(parseSize("8cpu-linux-arm64", sampleSize), large);
  assert.deepEqual(parseSize("8cpu x64", sampleSize), { ...sampleSize, cpu: 8 });
  assert.deepEqual(parseSize("arm64", sampleSize), { ...sampleSize, architecture: "arm64" });
});

test("what is no size is an error with a hint", () => {
  for (const [text, message] of [
    ["", /the size is empty/],
    ["huge", /"huge" is no size/],
    ["4cpu x64 arm64", /"arm64" is no size/],
    ["2cpu-linux-x64 arm64", /"arm64" is no size/],
    ["4cpu 8cpu", /ask for a different cpu/],
    ["mayfly=1/cpu=4", /names no image, spot or run id/],
    ["mayfly/spot=true", /names no image, spot or run id/],
    ["mayfly/image=debian-13", /names no image, spot or run id/],
    ["4cpu9", /"9" is no size/],
  ] as const) {
    assert.throws(
      () => parseSize(text, sampleSize),
      (error) =>
        error instanceof MayflyError &&
        error.code === "invalid" &&
        error.hint !== undefined &&
        message.test(error.message),
      text,
    );
  }
});
