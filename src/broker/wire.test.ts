import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MayflyError } from "../domain/errors.ts";
import { parseWire, wireLine } from "./wire.ts";

function parse(value: unknown): ReturnType<typeof parseWire> {
  return parseWire(Buffer.from(JSON.stringify(value)));
}

test("both of rr's versions are read as its workflows write them", () => {
  const label = "rr_runner_0123456789abcdef0123456789abcdef";
  // Byte for byte: the shell has taken the backslashes away.
  const second = `{"operation": "create", "architectures":["x86_64", "arm64"], "label": "${label}"}`;
  assert.deepEqual(parseWire(Buffer.from(second)), {
    ...{ operation: "create", version: 2, label, architectures: ["x86_64", "arm64"] },
    ...{ repository: null, run: null },
  });
  const first = `{"operation": "create", "architecture":"x86_64", "label": "${label}_x86_64"}`;
  assert.deepEqual(parseWire(Buffer.from(first)), {
    ...{ operation: "create", version: 1, label: `${label}_x86_64`, architectures: ["x86_64"] },
    ...{ repository: null, run: null },
  });
  assert.deepEqual(parseWire(Buffer.from(`{"operation": "destroy", "label": "${label}"}`)), {
    ...{ operation: "destroy", labels: [label] },
  });
  const both = `{"operation": "destroy", "labels": ["${label}_x86_64", "${label}_arm64"]}`;
  assert.deepEqual(parseWire(Buffer.from(both)), {
    ...{ operation: "destroy", labels: [`${label}_x86_64`, `${label}_arm64`] },
  });
});

test("a create may say its run, as a number or text", () => {
  const create = { operation: "create", architectures: ["x86_64"], label: "a" };
  for (const run_id of [123, "123"]) {
    const read = parse({ ...create, repository: "acme/widget", run_id });
    assert.deepEqual(
      [read.operation === "create" && read.run, read.operation === "create" && read.repository],
      ["123", "acme/widget"],
    );
  }
  for (const run_id of ["1;id", -1, 1.5, 0, "", [], {}]) {
    assert.throws(() => parse({ ...create, run_id }), MayflyError, JSON.stringify(run_id));
  }
});

test("what names nothing, or too much, is refused", () => {
  const many = Array.from({ length: 100_000 }, (_, index) => `rr_runner_${index}`);
  const wrong = [
    null,
    [],
    "create",
    {},
    { operation: "destroy" },
    { operation: "destroy", label: "" },
    { operation: "destroy", labels: [] },
    { operation: "destroy", labels: [""] },
    { operation: "destroy", labels: ["a"], label: "a" },
    { operation: "destroy", labels: many },
    { operation: "create", label: "a" },
    { operation: "create", architectures: [], label: "a" },
    { operation: "create", architectures: ["x86_64"], architecture: "x86_64", label: "a" },
    { operation: "create", architectures: many, label: "a" },
    { operation: "create", architectures: ["x86_64"], label: "" },
    { operation: "create", architectures: ["x86_64"], label: 1 },
    { operation: "CREATE", architectures: ["x86_64"], label: "a" },
    { operation: "__proto__", label: "a" },
  ];
  for (const value of wrong) {
    assert.throws(() => parse(value), { code: "invalid" }, JSON.stringify(value)?.slice(0, 80));
  }
});

test("any bytes are read or refused as invalid, never otherwise", () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 300 }),
        fc.json().map((text) => Buffer.from(text)),
      ),
      (bytes) => {
        try {
          parseWire(bytes);
        } catch (error) {
          assert.ok(error instanceof MayflyError && error.code === "invalid");
        }
      },
    ),
  );
});

test("a refusal is one line, whatever is in it", () => {
  fc.assert(
    fc.property(
      fc.string({ unit: "binary", maxLength: 2000 }),
      fc.option(fc.string({ unit: "binary" })),
      (message, hint) => {
        const line = wireLine({ message, hint: hint ?? undefined });
        assert.match(line, /^[^\p{Cc}\p{Zl}\p{Zp}]{0,401}\n$/u);
        assert.ok(line.isWellFormed());
      },
    ),
  );
});
