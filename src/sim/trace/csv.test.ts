import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { MayflyError } from "../../domain/errors.ts";
import { csvField, CsvReader } from "./csv.ts";

function read(...pieces: string[]): { fields: readonly string[]; line: number }[] {
  const records: { fields: readonly string[]; line: number }[] = [];
  const reader = new CsvReader("jobs.csv", (fields, line) => records.push({ fields, line }));
  for (const piece of pieces) reader.push(piece);
  reader.end();
  return records;
}

function faultOf(...pieces: string[]): MayflyError {
  try {
    read(...pieces);
  } catch (error) {
    assert.ok(error instanceof MayflyError);
    return error;
  }
  assert.fail("it was taken");
}

describe("comma-separated values", () => {
  test("whatever the fields hold and wherever the text is cut, they come back", () => {
    const field = fc.string({ unit: fc.constantFrom("a", '"', ",", "\n", "\r\n", "ß", " ") });
    const record = fc.array(field, { minLength: 2, maxLength: 4 });
    const breaks = fc.constantFrom("\n", "\r\n");
    fc.assert(
      fc.property(
        fc.array(record),
        breaks,
        fc.boolean(),
        fc.array(fc.nat()),
        (records, end, ends, cuts) => {
          const lines = records.map((fields) => fields.map(csvField).join(","));
          const text = `\ufeff${lines.join(end)}${ends ? end : ""}`;
          const places = [
            0,
            ...cuts.map((cut) => cut % text.length).sort((a, b) => a - b),
            undefined,
          ];
          const pieces = places
            .slice(0, -1)
            .map((from, index) => text.slice(from, places[index + 1]));
          assert.deepEqual(
            read(...pieces).map(({ fields }) => fields),
            records,
          );
        },
      ),
    );
  });

  test("lines are counted as an editor counts them", () => {
    const records = read('a,b\r\n\r\n"two\r\nlines",c\r\nd,"e"');
    assert.deepEqual(records, [
      { fields: ["a", "b"], line: 1 },
      { fields: ["two\r\nlines", "c"], line: 3 },
      { fields: ["d", "e"], line: 5 },
    ]);
  });

  test("quotes that make no sense are refused with their line", () => {
    assert.equal(faultOf('a,b\nc,d"e\n').where, "jobs.csv:2");
    assert.equal(faultOf('a,b\n"c"d,e\n').where, "jobs.csv:2");
    const open = faultOf('a,b\n\n"c,d\ne,f\n');
    assert.equal(open.where, "jobs.csv:3");
    assert.match(open.message, /never closed/);
  });

  test("a quote that is never closed is found before memory ends", () => {
    assert.match(
      faultOf(
        'a,"',
        ..."x"
          .repeat(11)
          .split("")
          .map((x) => x.repeat(100_000)),
      ).message,
      /characters/,
    );
  });
});
