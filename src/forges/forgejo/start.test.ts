import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import { sampleRunner } from "../../domain/samples.ts";
import { scriptPlace, type ScriptPlace } from "../start-script.ts";
import { ordersFor } from "./orders.ts";

const orders = ordersFor({
  url: "https://git.example.com",
  runner: sampleRunner({ name: "k7m2q-p-1", labels: ["ubuntu-latest", "a:b"] }),
  registered: { id: 42, uuid: "a-uuid", token: "the-token" },
  handle: "a-handle",
  context: { accept: ["trusted"], jobDeadlineSeconds: 3600 },
  programs: {},
});

/** Reads what the real one reads, in its order, and tells what is to be seen by then. */
const program = `#!/bin/sh
echo "called $*"
config=$(cat "$3")
file=\${5#file:}
echo "read <$(cat "$file")>"
until [ ! -e "$file" ]; do sleep 0.05; done
echo "config $config"
echo "here $(pwd) umask $(umask) vars $(env | grep -c -e the-token -e MAYFLY_)"
exit 7
`;

describe("the start script of Forgejo's runner", () => {
  let place: ScriptPlace;
  beforeEach(() => {
    place = scriptPlace();
  });
  afterEach(() => place.close());

  it("runs it for one job, with a token that no file holds any more", async () => {
    place.program("forgejo-runner", program);
    const { status, output } = await place.run(orders);
    assert.equal(status, 7, output);
    const [, called = ""] = /^called (.*)$/m.exec(output) ?? [];
    assert.match(called, /^one-job -c \S+ --token-url file:\S+ --fetch-interval 1s --wait /);
    assert.ok(
      called.endsWith("--uuid a-uuid --handle a-handle --label ubuntu-latest:host"),
      called,
    );
    assert.match(output, /^read <the-token>$/m);
    assert.ok(!called.includes("the-token"));
    assert.ok(output.includes(`here ${place.work} umask 0022 vars 1`), output);
    assert.match(output, /cache:\n {2}enabled: false/);
    assert.deepEqual(readdirSync(place.files), ["start.sh"]);
  });

  it("says what is missing", async () => {
    const { status, output } = await place.run(orders);
    assert.notEqual(status, 0);
    assert.match(output, /mayfly: no forgejo-runner in the image/);
    assert.ok(!output.includes("the-token"));
  });
});
