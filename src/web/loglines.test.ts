import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { LogFrame } from "../store/logs.ts";
import { LineReader } from "./loglines.ts";

function frame(
  seq: number,
  text: string | Uint8Array,
  stream: LogFrame["stream"] = "stdout",
): LogFrame {
  return {
    seq,
    at: 1000 + seq,
    stream,
    bytes: typeof text === "string" ? Buffer.from(text) : text,
  };
}

function read(frames: readonly LogFrame[]): string[] {
  const lines = new LineReader();
  const whole = frames.flatMap((one) => lines.push(one));
  return [...whole, ...lines.unfinished()].map(({ text }) => text);
}

test("streams are cut into lines each for itself, with the time of a line's first byte", () => {
  const reader = new LineReader();
  assert.deepEqual(reader.push(frame(0, "one\ntw")), [
    { seq: 0, at: 1000, stream: "stdout", text: "one", isWhole: true },
  ]);
  assert.deepEqual(
    reader.push(frame(1, "bad\n", "stderr")).map(({ text }) => text),
    ["bad"],
  );
  assert.deepEqual(
    reader.unfinished().map(({ text, isWhole }) => [text, isWhole]),
    [["tw", false]],
  );
  const [two] = reader.push(frame(2, "o\n"));
  assert.deepEqual(two, { seq: 0, at: 1000, stream: "stdout", text: "two", isWhole: true });
  assert.deepEqual(reader.unfinished(), []);
});

test("a carriage return starts the line over, and a Windows line end is one", () => {
  assert.deepEqual(read([frame(0, "10%\r50%\r"), frame(1, "99%\n")]), ["99%"]);
  assert.deepEqual(read([frame(0, "a\r\nb\r"), frame(1, "\nc\r\n")]), ["a", "b", "c"]);
  assert.deepEqual(read([frame(0, "10%\r50%")]), ["50%"]);
  assert.deepEqual(read([frame(0, "10%\r\r")]), ["10%"]);
});

test("a line without end is cut, and what is kept of it is bounded", () => {
  const lines = read(Array.from({ length: 100 }, (_, seq) => frame(seq, "x".repeat(1000))));
  assert.equal(lines.join("").length, 100_000);
  assert.ok(lines.every(({ length }) => length <= 8000));
});

test("where frames are cut makes no difference, not even within a character", () => {
  const text = fc.array(fc.constantFrom("ä", "\n", "€", "plain ", "👩‍🚀", "\r\n"), { maxLength: 40 });
  fc.assert(
    fc.property(text, fc.array(fc.nat(200), { maxLength: 10 }), (pieces, cuts) => {
      const bytes = Buffer.from(pieces.join(""));
      const ends = [...new Set(cuts.map((cut) => Math.min(cut, bytes.length)))].sort(
        (a, b) => a - b,
      );
      const starts = [0, ...ends];
      const frames = starts.map((start, index) =>
        frame(index, bytes.subarray(start, starts[index + 1] ?? bytes.length)),
      );
      assert.deepEqual(read(frames), read([frame(0, bytes)]));
    }),
  );
});
