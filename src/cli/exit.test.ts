import assert from "node:assert/strict";
import test from "node:test";
import { ConfigError } from "../config/problems.ts";
import { MayflyError } from "../domain/errors.ts";
import { jobOutcomes } from "../domain/job.ts";
import { exitOfError, exitOfJob } from "./exit.ts";

test("a command's own status is handed through, whatever it is", () => {
  for (const exitCode of [1, 2, 64, 75, 124, 125, 127, 137, 255]) {
    assert.equal(exitOfJob({ outcome: "failure", exitCode }), exitCode);
  }
  assert.equal(exitOfJob({ outcome: "success", exitCode: 0 }), 0);
});

test("only success and a skipped job are 0", () => {
  const zero = jobOutcomes.filter((outcome) => exitOfJob({ outcome, exitCode: null }) === 0);
  assert.deepEqual(zero, ["success", "skipped"]);
  assert.equal(exitOfJob({ outcome: "timed_out", exitCode: 0 }), 124);
  assert.equal(exitOfJob({ outcome: "cancelled", exitCode: null }), 130);
  assert.equal(exitOfJob({ outcome: "lost", exitCode: null }), 75);
  assert.equal(exitOfJob({ outcome: null, exitCode: null }), 1);
});

test("errors", () => {
  assert.equal(exitOfError(new ConfigError("mayfly.yaml", [])), 78);
  assert.equal(exitOfError(new MayflyError("invalid", "")), 64);
  assert.equal(exitOfError(new MayflyError("unavailable", "")), 69);
});
