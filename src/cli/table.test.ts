import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { folded, table, widthOf, type Column } from "./table.ts";

interface Row {
  readonly id: string;
  readonly name: string;
  readonly size: string;
}

const columns: Column<Row>[] = [
  { title: "ID", text: ({ id }) => id },
  { title: "NAME", text: ({ name }) => name, flexible: true },
  { title: "SIZE", text: ({ size }) => size, align: "right" },
];
const plain = (_: string, text: string) => text;

test("columns are aligned, the last without trailing blanks", () => {
  const rows = [
    { id: "a", name: "short", size: "1" },
    { id: "longer", name: "x", size: "100" },
  ];
  assert.deepEqual(table(rows, columns, null, plain), [
    "ID      NAME   SIZE",
    "a       short     1",
    "longer  x       100",
  ]);
});

test("on a terminal the flexible column gives way, in a pipe nothing does", () => {
  const rows = [{ id: "a", name: "a name that is far too long", size: "1" }];
  assert.deepEqual(table(rows, columns, 24, plain), [
    "ID  NAME            SIZE",
    "a   a name that i…     1",
  ]);
  assert.match(table(rows, columns, null, plain)[1] ?? "", /far too long/);
});

test("what is still too wide loses its optional columns, the last first", () => {
  const optional: Column<Row>[] = [
    ...columns,
    { title: "POOL", text: () => "a-pool", optional: true },
    { title: "MACHINE", text: () => "a-machine-of-some-length", optional: true },
  ];
  const rows = [{ id: "a", name: "some name", size: "1" }];
  const titles = (width: number) => table(rows, optional, width, plain)[0]?.split(/ +/);
  assert.deepEqual(titles(80), ["ID", "NAME", "SIZE", "POOL", "MACHINE"]);
  assert.deepEqual(titles(40), ["ID", "NAME", "SIZE", "POOL"]);
  assert.deepEqual(titles(20), ["ID", "NAME", "SIZE"]);
});

test("a name from outside cannot move the cursor or break a line", () => {
  const [, line = ""] = table(
    [{ id: "a\u001b[2J", name: "b\nc\r\td\u202e", size: "1" }],
    columns,
    null,
    plain,
  );
  assert.doesNotMatch(line, /[\p{Cc}\p{Cf}]/u);
  assert.match(line, /b c d/);
});

test("tints do not count as width", () => {
  const tinted: Column<Row>[] = columns.map((column) => ({ ...column, tint: () => "red" }));
  const paint = (_: string, text: string) => `<${text}>`;
  const rows = [
    { id: "a", name: "n", size: "1" },
    { id: "bb", name: "n", size: "1" },
  ];
  assert.deepEqual(table(rows, tinted, null, paint).slice(1), [
    "<a>   <n>        <1>",
    "<bb>  <n>        <1>",
  ]);
});

test("a text is folded between words, each line below the first, and whole in a pipe", () => {
  assert.equal(folded("one two three", 4, 12), "one two\n    three");
  assert.equal(folded("one two three", 4, null), "one two three");
  assert.equal(folded("a/very/long/path is here", 2, 10), "a/very/long/path\n  is here");
  assert.equal(folded("", 2, 10), "");
});

test("no line is wider than the terminal, as long as the rigid columns fit", () => {
  const word = fc.string({ unit: "grapheme", maxLength: 60 });
  fc.assert(
    fc.property(fc.array(fc.record({ name: word }), { minLength: 1 }), (names) => {
      const rows = names.map(({ name }) => ({ id: "abc", name, size: "12" }));
      for (const line of table(rows, columns, 40, plain)) assert.ok(widthOf(line) <= 40, line);
    }),
  );
});
