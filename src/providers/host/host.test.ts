import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { destroyed, listed, never, until, World } from "../conformance-world.ts";
import { conformance } from "../conformance.ts";
import type { MachineSpec, Provider } from "../provider.ts";
import { open } from "./host.ts";
import { parseProcessId, startOf } from "../processes.ts";

conformance({
  name: "host",
  module: new URL("host.ts", import.meta.url).href,
  options: {},
  lacks: { image: "a process has no image" },
});

const linux = process.platform === "linux" ? false : "looks into /proc";

describe("the host provider", { timeout: 600_000 }, () => {
  let world: World;
  let provider: Provider;
  let spec: MachineSpec;
  let folder: string;
  let machines = 0;

  before(async () => {
    world = await World.make((context) => open({}, context));
    provider = await world.open();
  });
  after(async () => assert.deepEqual(await world.close(), []));

  function next(): void {
    spec = world.spec(`${++machines}`, provider);
    folder = join(world.context().folder, "machines", spec.name);
  }

  async function run(script: string): Promise<void> {
    const command = ["/bin/sh", "-c", script];
    const environment = { FOO: "bar", PERL5OPT: "-Mno_such_module" };
    const program = { files: [], command, environment, deadlineSeconds: 600 };
    await provider.create(spec, program, never);
  }

  async function ended(): Promise<number | null> {
    await until("its end", async () => (await listed(provider, spec.name))[0]?.state === "ended");
    return (await listed(provider, spec.name))[0]?.exitCode ?? null;
  }

  it("gives a home and a place for temporary files, both in the scratch folder", async () => {
    next();
    await run('pwd; echo "$HOME"; echo "$TMPDIR"; echo "$FOO"; touch "$TMPDIR/x"; umask');
    assert.equal(await ended(), 0);
    const output = (await readFile(join(folder, "output"), "utf8")).split("\n");
    const [home, tmp] = [join(folder, "home"), join(folder, "tmp")];
    assert.deepEqual(output.slice(0, 5), [home, home, tmp, "bar", "0022"]);
    assert.ok(existsSync(join(tmp, "x")));
  });

  it("keeps the beginning of what a program writes, and never makes it wait", async () => {
    next();
    await run("i=0; while [ $i -lt 3000 ]; do printf '%01000d' $i; i=$((i+1)); done; exit 5");
    assert.equal(await ended(), 5);
    assert.equal((await stat(join(folder, "output"))).size, 65_536);
  });

  it("tells a signal's end as a shell does", async () => {
    next();
    await run("kill -9 $$");
    assert.equal(await ended(), 137);
  });

  it("takes a pid used again by another process for what it is", async (t) => {
    next();
    await run("exit 0");
    await ended();
    const stranger = spawn("sleep", ["1000"]);
    t.after(() => stranger.kill("SIGKILL"));
    await once(stranger, "spawn");
    const since = await startOf(stranger.pid!);
    await rm(join(folder, "exit"));
    await writeFile(join(folder, "pid"), `${stranger.pid} ${since}0\n`);
    assert.equal((await listed(provider, spec.name))[0]?.state, "ended");
    await destroyed(provider, spec.name);
    assert.equal(await startOf(stranger.pid!), since, "the stranger lives");
    const over = once(stranger, "exit");
    stranger.kill("SIGKILL");
    await over;
  });

  it("ends the processes of a machine whose supervisor was killed", { skip: linux }, async () => {
    next();
    await provider.create(spec, world.program(spec.name, "stay"), never);
    const voice = await world.voice(spec.name);
    const supervisor = parseProcessId(await readFile(join(folder, "pid"), "utf8"));
    process.kill(supervisor!.pid, "SIGKILL");
    assert.equal(await ended(), null);
    await destroyed(provider, spec.name);
    await voice.over;
  });

  it("ends a supervisor that was stopped", { skip: linux }, async () => {
    next();
    await provider.create(spec, world.program(spec.name, "stay"), never);
    const voice = await world.voice(spec.name);
    const supervisor = parseProcessId(await readFile(join(folder, "pid"), "utf8"));
    process.kill(supervisor!.pid, "SIGSTOP");
    await destroyed(provider, spec.name);
    await voice.over;
  });

  it("removes folders that nobody may write to, and follows no link out", async () => {
    next();
    const precious = join(world.context().folder, "precious");
    await writeFile(precious, "kept");
    await run(`ln -s '${precious}' link; mkdir -p a/b; touch a/b/c; chmod -R a-w a; chmod 0 a/b`);
    assert.equal(await ended(), 0);
    assert.equal(await readlink(join(folder, "home", "link")), precious);
    await destroyed(provider, spec.name);
    assert.equal(existsSync(folder), false);
    assert.equal(await readFile(precious, "utf8"), "kept");
    assert.equal((await stat(precious)).mode & 0o222, 0o200);
  });

  it("says so when perl is missing", async () => {
    next();
    const path = process.env["PATH"];
    process.env["PATH"] = "/nonexistent";
    try {
      const refused = provider.create(spec, world.program(spec.name, "stay"), never);
      await assert.rejects(refused, { kind: "invalid", message: /apt-get install perl/ });
      const perl = (await provider.check(never)).find(({ name }) => name === "perl");
      assert.equal(perl?.ok, false);
      assert.match(perl?.mend ?? "", /apt-get install perl/);
    } finally {
      process.env["PATH"] = path;
    }
    await destroyed(provider, spec.name);
  });
});
