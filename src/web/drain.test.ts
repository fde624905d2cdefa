import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { startWeb, token, type WebUnderTest } from "../../test/web.ts";

let web: WebUnderTest;
before(async () => {
  web = await startWeb();
});
after(() => web.close());

test("a server that drains refuses what is new in words, and shows what is there", async () => {
  assert.equal((await fetch(`${web.url}/readyz`)).status, 200);
  web.drain();
  const ready = await fetch(`${web.url}/readyz`);
  assert.equal(ready.status, 503);
  assert.deepEqual(await ready.json(), { status: "unready", detail: "stopping" });
  for (const path of ["/v1/jobs", "/v1/trees"]) {
    const response = await fetch(web.url + path, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify({ repository: "a", source: { kind: "none" }, command: ["true"] }),
    });
    assert.equal(response.status, 503, path);
    assert.ok(response.headers.get("retry-after") !== null);
    const { code, detail } = (await response.json()) as { code: string; detail: string };
    assert.deepEqual([code, detail], ["unavailable", "this Mayfly is stopping"]);
  }
  assert.equal((await fetch(`${web.url}/v1/jobs`)).status, 200);
});
