import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { promisify } from "node:util";
import { conformance } from "../conformance.ts";
import { destroyed, listed, never, until, World } from "../conformance-world.ts";
import type { Provider, ProviderContext } from "../provider.ts";
import { checkPodman } from "./check.ts";
import { baseImage } from "./image.ts";
import { podmanOptions, type PodmanOptions } from "./options.ts";
import { open } from "./podman.ts";
import { podmanForTests } from "./testing.ts";

const run = promisify(execFile);
/** Of a test, and of all in a group together. */
const timeout = 600_000;
const { skip, powers, found } = await podmanForTests();

/** Opens the provider with what was found out of podman once, instead of each time. */
async function opened(options: PodmanOptions, context: ProviderContext): Promise<Provider> {
  await writeFile(join(context.folder, "powers.json"), found);
  return open(options, context);
}

/** What is left of a machine in podman, among the processes, or mounted. */
async function leftovers(name: string): Promise<string[]> {
  const format = ["--format", "{{.Names}} {{.Status}}"];
  const { stdout } = await run("podman", ["ps", "--all", "--external", ...format]);
  const left = stdout.split("\n").filter((line) => line.startsWith(`${name} `));
  for (const pid of (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry))) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.includes(`\0-n\0${name}\0`)) left.push(`conmon ${pid}`);
  }
  return left;
}

conformance({
  name: "podman",
  module: new URL("podman.ts", import.meta.url).href,
  options: podmanOptions.parse({}),
  open: (context) => opened(podmanOptions.parse({}), context),
  skip,
  leftovers: async (name) => {
    // conmon follows its container within milliseconds.
    await until(`nothing of ${name} to be left`, async () => (await leftovers(name)).length === 0);
    return [];
  },
});

describe("a machine of podman", { timeout, skip }, () => {
  let world: World;
  let provider: Provider;
  let machines = 0;
  let options: PodmanOptions;

  before(async () => {
    world = await World.make((context) => opened(options, context));
    options = podmanOptions.parse({});
    provider = await world.open();
  });
  after(async () => assert.deepEqual(await world.close(), []));

  /** Runs a script in a machine to its end; what it wrote and how it ended. */
  async function say(script: string, more: object = {}, by: Provider = provider) {
    const spec = { ...world.spec(`${++machines}`, by), ...more };
    const command = ["/bin/sh", "-c", script];
    const program = { files: [], command, environment: {}, deadlineSeconds: 600 };
    await by.create(spec, program, never);
    await until("its end", async () => (await listed(by, spec.name))[0]?.state === "ended");
    const { exitCode } = (await listed(by, spec.name))[0]!;
    const { stdout, stderr } = await run("podman", ["logs", spec.name]);
    await destroyed(by, spec.name);
    return { stdout, stderr, exitCode };
  }

  it("has a root that may do all a job needs, and is nobody on the host", async () => {
    const { stdout, stderr, exitCode } = await say(`set -e
      useradd --create-home builder
      su builder -c 'id -un; touch /home/builder/x'
      chown daemon:daemon /tmp; chmod 4755 /bin/true; mkdir /usr/local/lib/x
      head -n 1 /proc/self/uid_map | tr -s ' '
      grep NoNewPrivs /proc/self/status | tr '\\t' ' '
      perl -v >/dev/null; git --version >/dev/null; make --version >/dev/null
      printf 'all:V:\\n\\techo made\\n' >mkfile; PATH=$PATH:/usr/lib/plan9/bin mk`);
    assert.equal(exitCode, 0, stderr);
    const [user, map, privileges, ...made] = stdout.trim().split("\n");
    assert.equal(user, "builder");
    assert.equal(privileges, "NoNewPrivs: 1");
    assert.equal(made.at(-1), "made");
    const outside = Number(map?.trim().split(" ")[1]);
    if (powers?.rootless) assert.equal(outside, process.getuid?.());
    else if (powers?.userNamespace) assert.ok(outside >= 0x7000_0000, `root is ${outside} outside`);
  });

  it("cannot write to what it is lent, nor mount, nor reach the host's kernel settings", async () => {
    const { stdout } = await say(`
      touch /run/mayfly/program/x 2>/dev/null && echo wrote
      touch /run/mayfly/guest/x 2>/dev/null && echo wrote
      mount -t tmpfs none /mnt 2>/dev/null && echo mounted
      mount -o remount,rw /run/mayfly/program 2>/dev/null && echo remounted
      echo 1 2>/dev/null >/proc/sys/kernel/panic && echo set
      mknod /tmp/disk b 8 0 2>/dev/null && echo made
      chroot /proc/1/root true && echo in itself`);
    assert.equal(stdout, "in itself\n");
  });

  it("has no network and knows no host unless its pool asks", async () => {
    const { stdout } = await say(
      "cut -d: -f1 /proc/net/dev | tail -n +3; cat /etc/hosts; hostname",
    );
    const lines = stdout.trim().split("\n");
    assert.equal(lines[0]?.trim(), "lo");
    assert.ok(!lines[1]?.includes(":") || lines[1].includes("localhost"), "no second interface");
    assert.ok(stdout.includes("127.0.0.1\tlocalhost"));
    assert.ok(!stdout.includes(hostname()) || hostname() === "localhost");
  });

  it("reaches the network when its pool asks", async (t) => {
    const checks = await checkPodman(options, world.context(), never);
    const network = checks.find(({ name }) => name === "network");
    if (network?.ok !== true) return t.skip(`no network for containers: ${network?.detail}`);
    const { stdout } = await say("cut -d: -f1 /proc/net/dev | tail -n +3", { network: true });
    assert.equal(stdout.trim().split("\n").length, 2);
  });

  it("is ended when it takes more memory than it has", async (t) => {
    if (!powers?.limits) return t.skip("memory is not limited on this host");
    const size = { ...world.spec("x", provider).size, memoryMb: 64 };
    const { exitCode } = await say(`exec perl -e '$x = "x" x (256 << 20)'`, { size });
    assert.equal(exitCode, 137);
  });

  it("has so many processes and no more", async (t) => {
    if (!powers?.limits) return t.skip("processes are not limited on this host");
    const { stdout } = await say(
      `exec perl -e 'while (1) { my $pid = fork; last if !defined $pid; sleep 100 if !$pid; $n++ } print $n'`,
    );
    assert.ok(Number(stdout) > 100 && Number(stdout) < 512, stdout);
  });

  it("writes no file larger than its disk", async () => {
    const size = { ...world.spec("x", provider).size, diskGb: 0.01 };
    const { stdout } = await say("head -c 20000000 /dev/zero >/big; stat -c %s /big", { size });
    assert.equal(Number(stdout), Math.ceil(0.01 * 2 ** 30));
  });

  it("ends all its processes when its program ends", async () => {
    const spec = world.spec(`${++machines}`, provider);
    const script =
      "perl {program}/guest.pl {guest} $0 stay & while ! [ -e /told ]; do sleep 0.1; done";
    const whole = world.program(spec.name, "stay");
    const program = { ...whole, command: ["/bin/sh", "-c", script, spec.name] };
    await provider.create(spec, program, never);
    const voice = await world.voice(spec.name);
    await run("podman", ["exec", spec.name, "touch", "/told"]);
    await voice.over;
    await destroyed(provider, spec.name);
  });

  it("keeps of a talkative program only so much", async () => {
    const { stdout, exitCode } = await say("yes | head -c 5000000");
    assert.equal(exitCode, 0);
    assert.ok(stdout.length < 200_000, `${stdout.length} bytes kept`);
  });

  it("may be made of another image, whatever that says of user, entry point and volumes", async () => {
    const image = `localhost/mayfly-test-${world.installation}:1`;
    const folder = await mkdtemp(join(tmpdir(), "mayfly-image-"));
    try {
      const { stdout: id } = await run("podman", ["create", baseImage, "true"]);
      const files = join(folder, "files.tar");
      await run("podman", ["export", "--output", files, id.trim()]);
      await run("podman", ["rm", id.trim()]);
      const changes = ["VOLUME /data", 'ENTRYPOINT ["/bin/false"]', "USER daemon", "ENV LAYER=1"];
      const flags = changes.flatMap((change) => ["--change", change]);
      await run("podman", ["import", "--quiet", ...flags, files, image]);
      const volumes = async () => (await run("podman", ["volume", "ls", "--quiet"])).stdout;
      const before = await volumes();
      const { stdout } = await say('id -un; echo "$LAYER"; touch /data/x && echo wrote', { image });
      assert.equal(stdout, "root\n1\nwrote\n");
      assert.equal(await volumes(), before);
    } finally {
      await run("podman", ["rmi", "--force", image]);
      await rm(folder, { recursive: true });
    }
  });

  it("is checked for mounts that are not there", async () => {
    const mounts = async (from: string) => {
      const parsed = podmanOptions.parse({ mounts: [{ from, to: "/opt/tools" }] });
      const checks = await checkPodman(parsed, world.context(), never);
      return checks.find(({ name }) => name === "mounts");
    };
    assert.equal((await mounts("/usr"))?.ok, true);
    const missing = await mounts("/nonexistent");
    assert.deepEqual([missing?.ok, missing?.detail], [false, "/nonexistent is not there"]);
  });

  it("is lent the operator's mounts, read-only", async () => {
    const lent = await mkdtemp(join(tmpdir(), "mayfly-lent-"));
    await writeFile(join(lent, "tool"), "#!/bin/sh\necho lent\n", { mode: 0o755 });
    await run("chmod", ["755", lent]);
    const plain = options;
    options = podmanOptions.parse({ mounts: [{ from: lent, to: "/opt/tools" }] });
    const other = await world.open();
    options = plain;
    const { stdout } = await say("/opt/tools/tool; touch /opt/tools/x || echo kept", {}, other);
    assert.equal(stdout, "lent\nkept\n");
    await rm(lent, { recursive: true });
  });
});

describe("a machine of podman that somebody stays with", { timeout, skip }, () => {
  let world: World;
  let provider: Provider;
  let begun = 0;

  before(async () => {
    world = await World.make((context) =>
      opened(podmanOptions.parse({}), { ...context, stays: () => (begun += 1) }),
    );
    provider = await world.open();
  });
  after(async () => assert.deepEqual(await world.close(), []));

  const making = (name: string, words: readonly [string, ...string[]], signal = never) => {
    const program = { files: [], command: words, environment: {}, deadlineSeconds: 600 };
    return provider.create(world.spec(name, provider), program, signal);
  };
  const nameOf = (name: string): string => world.spec(name, provider).name;

  it("goes by itself, and its end is told", async () => {
    const before = begun;
    const flood = "head -c 20000000 /dev/zero; echo words >&2; exit 7";
    const { state, exitCode } = await making("1", ["sh", "-c", flood]);
    assert.deepEqual([state, exitCode, begun - before], ["ended", 7, 1]);
    await assert.rejects(run("podman", ["container", "exists", nameOf("1")]));
    assert.equal(await provider.destroy(nameOf("1"), never), "gone");
    assert.deepEqual(await listed(provider, nameOf("1")), []);
    await until("conmon's end", async () => (await leftovers(nameOf("1"))).length === 0);
  });

  it("is refused in podman's words when it cannot start", async () => {
    await assert.rejects(making("2", ["nonesuch"]), { kind: "invalid", message: /nonesuch/ });
    assert.deepEqual(await listed(provider, nameOf("2")), []);
  });

  it("outlives whoever stayed, until it is removed", async () => {
    const leaving = new AbortController();
    const made = making("3", ["sleep", "1000"], leaving.signal);
    made.catch(() => {});
    const state = async () => (await listed(provider, nameOf("3")))[0]?.state;
    await until("its start", async () => (await state()) === "running");
    leaving.abort();
    await assert.rejects(made, { kind: "unreachable" });
    assert.equal(await state(), "running");
    await destroyed(provider, nameOf("3"));
    await until("nothing to be left", async () => (await leftovers(nameOf("3"))).length === 0);
  });
});

describe("podman in trouble", { timeout, skip }, () => {
  let world: World;
  let provider: Provider;
  let now = 0;
  const warnings: object[] = [];

  beforeEach(async () => {
    now = Date.now();
    warnings.length = 0;
    world = await World.make((context) => {
      const log = { info: () => {}, warn: (fields: object) => void warnings.push(fields) };
      return opened(podmanOptions.parse({}), { ...context, now: () => now, log });
    });
    provider = await world.open();
  });
  afterEach(async () => assert.deepEqual(await world.close(), []));

  it("leaves nothing, whenever a podman is killed while it makes a machine", async () => {
    for (const [n, delayMs] of [10, 30, 45, 60, 75, 90, 110].entries()) {
      const spec = world.spec(`${n}`, provider);
      let over = false;
      const making = provider
        .create(spec, world.program(spec.name, "stay"), never)
        .catch((error: unknown) => error)
        .finally(() => (over = true));
      await killPodman(spec.name, delayMs, () => over);
      const made = await making;
      if (made instanceof Error) assert.equal((made as { kind?: string }).kind, "unreachable");
      await destroyed(provider, spec.name);
      await until("nothing to be left", async () => (await leftovers(spec.name)).length === 0);
    }
    assert.deepEqual(await provider.list(never), []);
  });

  it("starts a machine whose making was cut short, when asked again", async () => {
    for (const [n, delayMs] of [30, 50, 70, 90].entries()) {
      const spec = world.spec(`${n}`, provider);
      const program = world.program(spec.name, "stay");
      const signal = AbortSignal.timeout(delayMs);
      await provider.create(spec, program, signal).catch(() => {});
      const made = await provider.create(spec, program, never);
      assert.equal(made.state, "running");
      await world.voice(spec.name);
      assert.equal(world.voices(spec.name), 1);
      await destroyed(provider, spec.name);
    }
  });

  it("lists a folder whose machine never came up, and destroys it", async () => {
    const { folder } = world.context();
    const name = `${world.installation}-1`;
    await mkdir(join(folder, "machines", name));
    const state = async () => (await listed(provider, name))[0]?.state;
    assert.equal(await state(), "booting");
    now += 200_000;
    assert.equal(await state(), "ended");
    await destroyed(provider, name);
    assert.deepEqual(await readdir(join(folder, "machines")), []);
  });

  it("hands over the program of the last try, when none of them came to a container", async () => {
    const spec = world.spec("1", provider);
    const { folder } = world.context();
    await mkdir(join(folder, "machines", spec.name, "program"), { recursive: true });
    await writeFile(join(folder, "machines", spec.name, "program", "stale"), "");
    await provider.create(spec, world.program(spec.name, "stay"), never);
    const { files } = await world.voice(spec.name);
    assert.deepEqual(Object.keys(files), ["guest.pl"]);
  });

  it("refuses a name that a container of somebody else has", async () => {
    const spec = world.spec("1", provider);
    await run("podman", ["create", "--name", spec.name, baseImage, "true"]);
    const refused = provider.create(spec, world.program(spec.name, "stay"), never);
    await assert.rejects(refused, { kind: "unreachable" });
    assert.deepEqual(
      (await listed(provider, spec.name)).map(({ handle }) => handle),
      [""],
    );
    await run("podman", ["rm", spec.name]);
    await destroyed(provider, spec.name);
  });

  it("ends a machine that writes more than its disk holds, where the store cannot", async (t) => {
    if (powers?.quota) return t.skip("the store limits disks itself");
    const spec = world.spec("1", provider);
    const script = "for n in 1 2 3 4; do head -c 8000000 /dev/zero >/f$n; done; sleep 1000";
    const command = ["/bin/sh", "-c", script];
    const size = { ...spec.size, diskGb: 0.01 };
    const program = { files: [], command, environment: {}, deadlineSeconds: 600 };
    await provider.create({ ...spec, size }, program, never);
    await until("its end", async () => {
      now += 31_000;
      return (await listed(provider, spec.name))[0]?.state === "ended";
    });
    assert.deepEqual(
      warnings.map((fields) => "machine" in fields && fields.machine),
      [spec.name],
    );
  });
});

/**
 * Kills, outright, the podman that makes this machine, some time after it began. One that was done
 * before it was seen (`over`) is let go: on a loaded host the look comes late.
 */
async function killPodman(name: string, delayMs: number, over: () => boolean): Promise<void> {
  const found = async (): Promise<number | null> => {
    for (const pid of await readdir("/proc")) {
      if (!/^\d+$/.test(pid)) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
      if (command.startsWith("podman\0run\0") && command.includes(`\0--name=${name}\0`)) {
        return Number(pid);
      }
    }
    return null;
  };
  let pid: number | null = null;
  await until("podman to begin", async () => (pid = await found()) !== null || over());
  if (pid === null) return;
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It was done already.
  }
}
