import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { sampleRunner } from "../../domain/samples.ts";
import { Secret } from "../../domain/secret.ts";
import { openGithub } from "./github.ts";
import { githubOptions } from "./options.ts";

/* Against GitHub itself: nothing but a runner of an own name is made there, and it is removed. */

const { MAYFLY_LIVE_GITHUB_URL: url, MAYFLY_LIVE_GITHUB_TOKEN: token } = process.env;
const skip =
  url === undefined || token === undefined
    ? "needs MAYFLY_LIVE_GITHUB_URL and MAYFLY_LIVE_GITHUB_TOKEN"
    : false;

test("GitHub itself polls, registers, lists and removes", { skip, timeout: 120_000 }, async () => {
  const options = githubOptions.parse({ url, token: "env:MAYFLY_LIVE_GITHUB_TOKEN" });
  const reference = { kind: "env", name: "MAYFLY_LIVE_GITHUB_TOKEN" } as const;
  const installation = `live${randomBytes(4).toString("hex")}`;
  const forge = openGithub(
    { ...options, token: new Secret(reference, token) },
    {
      name: "live",
      installation,
      now: Date.now,
      log: { info: () => {}, warn: () => {} },
      guestProgram: () => ({ files: [], command: ["true"], environment: {}, deadlineSeconds: 1 }),
    },
  );
  const signal = AbortSignal.timeout(100_000);
  const name = `${installation}-p-1`;
  const runner = sampleRunner({ name, labels: [`${installation}-label`] });
  assert.ok(Array.isArray(await forge.poll(signal)));
  assert.deepEqual(await forge.registrations(signal), []);
  try {
    const accept = { accept: ["trusted"], jobDeadlineSeconds: 60 } as const;
    for (const _ of [1, 2]) {
      const orders = await forge.handOver?.(runner, accept, signal);
      const file = orders?.files.find(({ path }) => path === "jitconfig");
      // A base64 text of a JSON object of files.
      const config = JSON.parse(Buffer.from(file?.content ?? "", "base64").toString()) as object;
      assert.ok(".runner" in config);
      const listed = await forge.registrations(signal);
      assert.deepEqual(
        listed.map((each) => [each.name, each.online]),
        [[name, false]],
      );
    }
  } finally {
    assert.equal(await forge.remove(name, signal), "gone");
  }
  assert.equal(await forge.remove(name, signal), "gone");
  const nothing = { externalId: "1", attempt: 1, repository: "octocat/hello-world" };
  assert.equal(await forge.find?.(nothing, signal), null);
});
