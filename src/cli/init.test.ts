import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { parse } from "yaml";
import { FakeGitea } from "../forges/gitea/fake/gitea.ts";
import { parseAddress } from "../forges/github/address.ts";
import { openWorld } from "../forges/github/fake/world.ts";
import { makeApp, permissionsFor } from "./init/manifest.ts";
import { mayfly, type Ended } from "./testing.ts";

describe("mayfly init", () => {
  let folder: string;
  let fake: FakeGitea;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mayfly-init-"));
    const server = { version: "1.27.3", scope: "/orgs/acme", now: Date.now };
    fake = new FakeGitea({ ...server, token: "a-token-of-gitea", secret: "unused" });
    await fake.server.open();
  });
  afterEach(async () => {
    await fake.server.close();
    await rm(folder, { recursive: true });
  });

  const state = () => ({ MAYFLY_STATE: join(folder, "state"), TOKEN: "a-token-of-gitea" });
  const init = (args: readonly string[], environment = state()): Promise<Ended> =>
    mayfly(["init", ...args], { folder, environment });
  const gitea = (): string[] => [
    "gitea",
    "--url",
    fake.url,
    "--scope",
    "acme",
    "--token",
    "env:TOKEN",
  ];

  it("tries a Gitea, adds it, and leaves nothing there", async () => {
    const { code, stderr } = await init(gitea());
    assert.equal(code, 0, stderr);
    assert.match(stderr, /registered a runner, init/);
    assert.match(stderr, /found it in the forge's list/);
    assert.deepEqual([...fake.state.runners.values()], []);
    const config = parse(readFileSync(join(folder, "mayfly.yaml"), "utf8")) as object;
    assert.deepEqual(config, {
      forges: {
        acme: { gitea: { url: fake.url, scope: "acme", token: "file:secrets/acme-token" } },
      },
      pools: { acme: { forge: "acme", labels: ["linux"], accept: ["trusted"] } },
    });
    const token = join(folder, "secrets", "acme-token");
    assert.equal(readFileSync(token, "utf8"), "a-token-of-gitea\n");
    assert.equal(statSync(token).mode & 0o777, 0o600);
    const checked = await mayfly(["doctor", "--json"], { folder, environment: state() });
    const { diagnoses } = JSON.parse(checked.stdout) as {
      diagnoses: { about: string; ok: boolean }[];
    };
    assert.equal(diagnoses.find(({ about }) => about === "forge acme")?.ok, true, checked.stdout);
  });

  it("keeps what the configuration held, and its comments", async () => {
    writeFileSync(join(folder, "mayfly.yaml"), "# ours\npools:\n  big: { max: 3 } # three\n");
    const { code, stderr } = await init([...gitea(), "--name", "forge", "--label", "gpu"]);
    assert.equal(code, 0, stderr);
    const text = readFileSync(join(folder, "mayfly.yaml"), "utf8");
    assert.match(text, /^# ours\n/);
    assert.match(text, /big: \{ max: 3 \} # three/);
    assert.match(text, /- gpu/);
    const again = await init([...gitea(), "--name", "forge"]);
    assert.equal(again.code, 1);
    assert.match(again.stderr, /there is forges\.forge already/);
    assert.equal(readFileSync(join(folder, "mayfly.yaml"), "utf8"), text);
  });

  it("leaves nothing of what does not work, and says why", async () => {
    const { code, stderr } = await init(gitea(), { ...state(), TOKEN: "revoked" });
    assert.notEqual(code, 0);
    assert.match(stderr, /401/);
    assert.doesNotMatch(stderr, /revoked[^;]*$/m);
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes("mayfly")),
      [],
    );
    assert.ok(!existsSync(join(folder, "secrets", "acme-token")));
  });

  it("takes no secret as an argument, and asks nobody who is not there", async () => {
    const inline = await init(["gitea", "--url", fake.url, "--token", "a-token-of-gitea"]);
    assert.equal(inline.code, 64);
    assert.match(inline.stderr, /a secret is no argument/);
    const unasked = await init(["gitea"]);
    assert.equal(unasked.code, 64);
    assert.match(unasked.stderr, /--url/);
    const unknown = await init(["githib"]);
    assert.match(unknown.stderr, /Did you mean github\?/);
  });

  it("tries GitHub by a token", async () => {
    const world = await openWorld({ now: Date.now });
    try {
      const environment = { ...state(), TOKEN: "github_pat_11AAAA_not_to_be_seen" };
      const words = ["github", "--url", world.fake.url, "--token", "env:TOKEN", "--json"];
      const { code, stderr, stdout } = await init(words, environment);
      assert.equal(code, 0, stderr);
      const told = JSON.parse(stdout) as { forge: string; labels: string[] };
      assert.deepEqual(told.labels, ["self-hosted", "linux", "x64"]);
      assert.deepEqual(await world.registered(), []);
      assert.doesNotMatch(stderr + stdout, /not_to_be_seen/);
    } finally {
      await world.close();
    }
  });
});

describe("a GitHub App by its manifest", () => {
  const address = parseAddress("https://github.com/acme");
  const made = {
    id: 7,
    pem: "a key",
    webhook_secret: "a secret",
    html_url: "https://github.com/apps/mayfly-acme",
  };

  it("is asked for with just the rights it needs, and its code is exchanged for its key", async () => {
    const asked: string[] = [];
    const fetchStub = (async (url: string) => {
      asked.push(url);
      return Response.json(made, { status: 201 });
    }) as unknown as typeof fetch;
    let page = "";
    const reach = "https://ci.example.org/v1/forges/acme/events";
    const options = { name: "mayfly-acme", reach, rerun: false, port: 0 };
    let told: (url: string) => void = () => {};
    const shown = new Promise<string>((resolve) => (told = resolve));
    const never = new AbortController().signal;
    const making = makeApp(address, options, (url) => told(url), fetchStub, never);
    page = await shown;
    const html = await (await fetch(page)).text();
    const action = /action="([^"]+)"/.exec(html)?.[1] ?? "";
    assert.match(
      action,
      /^https:\/\/github\.com\/organizations\/acme\/settings\/apps\/new\?state=/,
    );
    const written = /name="manifest" value="([^"]+)"/.exec(html)?.[1]?.replaceAll("&quot;", '"');
    const manifest = JSON.parse(written ?? "") as Record<string, unknown>;
    assert.deepEqual(manifest["default_permissions"], {
      actions: "read",
      metadata: "read",
      organization_self_hosted_runners: "write",
    });
    assert.deepEqual(manifest["default_events"], ["workflow_job", "workflow_run"]);
    const more = permissionsFor(parseAddress("https://github.com/acme/widget"), { rerun: true });
    assert.deepEqual(more, {
      ...{ actions: "write", checks: "read", metadata: "read", administration: "write" },
    });
    assert.equal(manifest["public"], false);
    const state = new URL(action.replaceAll("&amp;", "&")).searchParams.get("state") ?? "";
    const code = "abcdefghijklmnopqrst";
    const wrong = await fetch(`${page}/made?code=${code}&state=another`);
    assert.equal(wrong.status, 400);
    assert.deepEqual(asked, []);
    const back = await fetch(`${page}/made?code=${code}&state=${state}`);
    assert.equal(back.status, 200);
    const app = await making;
    assert.deepEqual(app, { id: 7, key: "a key", secret: "a secret", url: made.html_url });
    assert.deepEqual(asked, [`https://api.github.com/app-manifests/${code}/conversions`]);
    await assert.rejects(fetch(page));
  });

  it("that GitHub refuses is said", async () => {
    const refuse = (async () => Response.json({}, { status: 404 })) as unknown as typeof fetch;
    const show = (url: string): void => {
      void fetch(url)
        .then((response) => response.text())
        .then((html) => /state=([0-9a-f]+)/.exec(html)?.[1])
        .then((state) => fetch(`${url}/made?code=abcdefghijklmnop&state=${state}`));
    };
    const options = { name: "mayfly", reach: null, rerun: false, port: 0 };
    const making = makeApp(address, options, show, refuse, new AbortController().signal);
    await assert.rejects(making, { code: "unavailable", message: /status 404/ });
  });
});
