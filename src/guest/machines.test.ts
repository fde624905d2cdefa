import assert from "node:assert/strict";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { after, before, describe, test } from "node:test";
import { create } from "tar";
import { Manager, scratchFolder, scriptJob } from "../../test/guests.ts";
import { podmanForTests } from "../providers/podman/testing.ts";
import type { Provider } from "../providers/provider.ts";
import { providers } from "../providers/registry.ts";
import { findRunner } from "../store/questions.ts";
import { listArtifacts } from "../store/logs.ts";

const never = new AbortController().signal;

async function missing(kind: string): Promise<string | false> {
  return kind === "podman" ? (await podmanForTests()).skip : false;
}

for (const kind of ["host", "podman"]) {
  describe(`in a machine of ${kind}`, { skip: await missing(kind) }, () => {
    let folder = "";
    let manager: Manager;
    let provider: Provider;

    before(async () => {
      folder = scratchFolder();
      manager = await Manager.open(folder);
      const own = join(folder, "provider");
      mkdirSync(own);
      const known = providers[kind];
      assert.ok(known);
      provider = await known.open(known.options.parse({}), {
        name: kind,
        installation: "test",
        folder: own,
        guestFolder: join(folder, "guest"),
        stateFolder: folder,
        now: Date.now,
        log: { info: () => {}, warn: () => {} },
      });
    });

    after(async () => {
      for (const { name } of await provider.list(never)) {
        while ((await provider.destroy(name, never)) !== "gone");
      }
      await provider.close();
      await manager.close();
      rmSync(folder, { recursive: true, force: true });
    });

    test("a target runs on its tree, and what it made comes back", async () => {
      const tree = join(folder, "tree");
      mkdirSync(tree);
      writeFileSync(join(tree, "Makefile"), "test:\n\t@echo made; cp data out; exit 3\n");
      writeFileSync(join(tree, "data"), "0123456789");
      const archive = Readable.from(create({ cwd: tree }, ["Makefile", "data"]));
      const { sha256 } = await manager.native.keepTree(archive);
      const job = await manager.native.submit(
        scriptJob("", {
          command: [],
          source: { kind: "tree", sha256, commit: null },
          artifacts: ["o*"],
        }),
      );
      const [name, program] = await manager.claimRunner([], "unix:{guest}");
      const runner = await findRunner(manager.store.db, name);
      assert.ok(runner);
      await provider.create(
        { name, size: runner.size, image: null, network: false, trust: ["trusted"] },
        program,
        never,
      );
      const ended = await manager.ended(job.id);
      assert.equal(ended.outcome, "failure");
      assert.equal(await manager.text(job.id, "stdout"), "made\n");
      assert.match(await manager.text(job.id, "stderr"), /Makefile:2: test\] Error 3/);
      assert.deepEqual(
        (await listArtifacts(manager.store.db, job.id)).map(({ path, size }) => [path, size]),
        [["out", 10]],
      );
    });
  });
}
