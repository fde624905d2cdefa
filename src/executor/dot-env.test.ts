import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { parseDotEnv } from "./dot-env.ts";

test("names, values, quotes and comments", () => {
  const text = [
    "# a comment",
    "",
    "PLAIN=value # and why",
    "export SHOWN = spaced ",
    "SINGLE='as $it is # all'",
    'DOUBLE="a\\nb \\"c\\" \\$d" # after',
    "EMPTY=",
    "HASH=a#b",
    "PLAIN=later",
  ].join("\r\n");
  assert.deepEqual(Object.fromEntries(parseDotEnv(text)), {
    PLAIN: "later",
    SHOWN: "spaced",
    SINGLE: "as $it is # all",
    DOUBLE: 'a\nb "c" $d',
    EMPTY: "",
    HASH: "a#b",
  });
});

test("what is no setting is refused by its line, without its words", () => {
  for (const bad of ["nothing", "1A=x", 'A="open secret', "A='x' y"]) {
    assert.throws(
      () => parseDotEnv(`OK=1\n${bad}\n`, "/r/.env"),
      (error: Error & { where?: string }) =>
        error.where === "/r/.env:2" && !error.message.includes("secret"),
    );
  }
});

test("any value in single quotes comes back", () => {
  const value = fc.string().filter((text) => !/['\r\n]/.test(text));
  fc.assert(fc.property(value, (text) => parseDotEnv(`A='${text}'`).get("A") === text));
});
