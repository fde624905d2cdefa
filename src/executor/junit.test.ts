import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { readJunit } from "./junit.ts";

test("cases with all their ends", () => {
  const cases = readJunit(`<?xml version="1.0"?>
    <testsuites><testsuite name="s" tests="5">
      <testcase classname="a.B" name="passes &amp; &quot;well&#33;&quot;" time="0.5"/>
      <testcase name='fails' time="x"><failure message="1 &lt; 2&#10;more" type="E">text > here</failure>
        <error message="then this"/></testcase>
      <testcase name="errs"><error><![CDATA[boom <&>
second]]></error><system-out><![CDATA[<testcase name="not one"/>]]></system-out></testcase>
      <testcase name="skipped"><skipped/></testcase>
      <!-- <testcase name="nor this"/> -->
      <testcase name="cut short">`);
  assert.deepEqual(
    cases?.map(({ suite, name, outcome, seconds, message }) => [
      suite,
      name,
      outcome,
      seconds,
      message,
    ]),
    [
      ["a.B", 'passes & "well!"', "passed", 0.5, ""],
      ["", "fails", "failed", null, "1 < 2"],
      ["", "errs", "error", null, "boom <&>"],
      ["", "skipped", "skipped", null, ""],
      ["", "cut short", "passed", null, ""],
    ],
  );
});

test("what is no report is none", () => {
  assert.equal(readJunit(""), null);
  assert.equal(readJunit("<html><testcase name='x'/></html>"), null);
  assert.deepEqual(readJunit("<testsuite/>"), []);
});

test("no text breaks it, nor takes it long", () => {
  const piece = fc.constantFrom(
    "<",
    ">",
    "/",
    '"',
    "'",
    "testcase",
    "<testcase name=",
    "<!--",
    "&#x",
  );
  fc.assert(
    fc.property(
      fc.array(fc.oneof(piece, fc.string({ maxLength: 5 })), { maxLength: 200 }),
      (parts) => {
        readJunit(`<testsuite>${parts.join("")}`);
      },
    ),
  );
});
