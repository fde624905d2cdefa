import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { ProviderContext } from "./provider.ts";
import { detect, providers } from "./registry.ts";
import { defaults } from "./unconfigured.ts";

const signal = AbortSignal.timeout(600_000);

describe("the registry of providers", { timeout: 600_000 }, () => {
  let folder: string;
  let context: ProviderContext;

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mayfly-registry-"));
    const folders = { folder, guestFolder: join(folder, "guest"), stateFolder: folder };
    const log = { info: () => {}, warn: () => {} };
    context = { name: "one", installation: "abc", ...folders, now: () => Date.now(), log };
  });
  after(() => rm(folder, { recursive: true }));

  it("opens a provider by its kind's name, with the options its schema gave", async () => {
    const command = [
      "perl",
      fileURLToPath(new URL("../../examples/exec-provider.pl", import.meta.url)),
    ];
    const samples = { qemu: {}, host: {}, exec: { command } };
    for (const [name, options] of Object.entries(samples)) {
      const kind = providers[name]!;
      const provider = await kind.open(kind.options.parse(options), context);
      assert.equal(provider.name, "one");
      assert.deepEqual(await provider.list(signal), []);
      for (const trust of kind.accepts) assert.ok(provider.lends().accepts.includes(trust));
      await provider.close();
    }
  });

  it("checks each kind without leaving anything running", async () => {
    for (const name of ["qemu", "podman", "host"] as const) {
      const kind = providers[name];
      const checks = await kind.check(kind.options.parse({}), context, signal);
      assert.ok(checks.length > 0);
      for (const { ok, mend } of checks) assert.ok(ok || mend, "what is not well has its mend");
    }
  });

  it("refuses options it does not know", () => {
    for (const { options } of Object.values(providers)) {
      assert.equal(options.safeParse({ unknown: 1 }).success, false);
    }
    assert.equal(providers.exec.options.safeParse({}).success, false);
    assert.equal(providers.exec.options.safeParse({ command: [] }).success, false);
  });

  it("sets a run's providers as a configuration that says nothing does", () => {
    assert.deepEqual(defaults.qemu, providers.qemu.options.parse({}));
    assert.deepEqual(defaults.podman, providers.podman.options.parse({ pull: "missing" }));
    assert.deepEqual(defaults.host, providers.host.options.parse({}));
  });

  it("has a folder for each kind, and a kind for each folder", async () => {
    const here = fileURLToPath(new URL(".", import.meta.url));
    const entries = await readdir(here, { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    assert.deepEqual(
      folders.filter((name) => name !== "fake").sort(),
      Object.keys(providers).sort(),
    );
  });

  it("finds what works here: podman or why not, and always the host", async () => {
    const [qemu, podman, host] = await detect(join(folder, "providers"), signal);
    assert.deepEqual(qemu, { kind: "qemu", ready: false, note: null });
    assert.equal(podman?.kind, "podman");
    assert.equal(podman.ready, podman.note === null);
    assert.equal(host?.kind, "host");
    assert.equal(host.ready, true);
    assert.match(host.note ?? "", /trusted/);
  });

  it("says how to get podman where there is none", async () => {
    const path = process.env["PATH"];
    process.env["PATH"] = "/nonexistent";
    try {
      const [, podman] = await detect(join(folder, "none"), signal);
      assert.equal(podman?.ready, false);
      assert.match(podman?.note ?? "", /apt-get install/);
      const [check] = await providers.podman.check(
        providers.podman.options.parse({}),
        context,
        signal,
      );
      assert.equal(check?.ok, false);
      assert.match(check?.mend ?? "", /apt-get install podman/);
    } finally {
      process.env["PATH"] = path;
    }
  });
});
