import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { serverEvents, type ServerEvent } from "./sse.ts";

async function read(chunks: readonly Uint8Array[]): Promise<ServerEvent[]> {
  const events: ServerEvent[] = [];
  for await (const event of serverEvents(ReadableStream.from(chunks))) events.push(event);
  return events;
}

test("events, ids, several lines of data, comments and a cut end", async () => {
  const text =
    "retry: 2000\n\n: still here\n\nid: 7\nevent: frame\ndata: one\ndata: two\n\n" +
    'data:{"a":1}\r\n\r\nevent: end\ndata: cut';
  assert.deepEqual(await read([Buffer.from(text)]), [
    { event: "frame", id: "7", data: "one\ntwo" },
    { event: "message", id: "7", data: '{"a":1}' },
  ]);
});

test("wherever the network cuts, the events are the same", async () => {
  // U+2028 ends a line in JavaScript, but not here.
  const unit = fc.oneof(
    fc.constantFrom("\u2028", "\r", "\n", ":", "é"),
    fc.string({ maxLength: 1 }),
  );
  const event = fc.record({ id: fc.nat(), data: fc.string({ unit }) });
  await fc.assert(
    fc.asyncProperty(fc.array(event), fc.infiniteStream(fc.nat(7)), async (events, sizes) => {
      const sent = events.map(({ id, data }) => ({ id, data: JSON.stringify(data) }));
      const bytes = Buffer.from(
        sent.map(({ id, data }) => `id: ${id}\nevent: frame\ndata: ${data}\n\n`).join(""),
      );
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length;) {
        const size = 1 + Number(sizes.next().value);
        chunks.push(bytes.subarray(at, at + size));
        at += size;
      }
      assert.deepEqual(
        await read(chunks),
        sent.map(({ id, data }) => ({ event: "frame", id: String(id), data })),
      );
    }),
    { numRuns: 200 },
  );
});
