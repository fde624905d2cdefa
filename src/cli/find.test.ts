import assert from "node:assert/strict";
import test from "node:test";
import { MayflyError } from "../domain/errors.ts";
import { choose } from "./find.ts";

const ids = ["native-abc1", "native-abd2", "acme-77", "m1-default-xyz"];

test("a whole id, its beginning, or what follows a dash", () => {
  assert.equal(choose("native-abc1", ids, "job"), "native-abc1");
  assert.equal(choose("native-abc", ids, "job"), "native-abc1");
  assert.equal(choose("abd", ids, "job"), "native-abd2");
  assert.equal(choose("xyz", ids, "job"), "m1-default-xyz");
});

test("a whole id wins over longer ones that begin with it", () => {
  assert.equal(choose("a-1", ["a-1", "a-12"], "job"), "a-1");
});

test("what means several, nothing, or nothing at all, is refused in words", () => {
  const refused = (given: string) => {
    try {
      return choose(given, ids, "job");
    } catch (error) {
      assert.ok(error instanceof MayflyError);
      return `${error.code}: ${error.message}`;
    }
  };
  assert.equal(refused("ab"), 'invalid: "ab" may mean native-abc1 and native-abd2');
  assert.equal(refused("zz"), 'not_found: there is no job "zz"');
  assert.equal(refused(""), 'not_found: there is no job ""');
});
