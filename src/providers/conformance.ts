import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, it, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { ProviderError } from "../domain/errors.ts";
import type { Program } from "../domain/program.ts";
import type { ManagerOrder } from "./conformance-manager.ts";
import { destroyed, listed, never, until, World } from "./conformance-world.ts";
import { isOurs } from "./names.ts";
import type { MachineSpec, Provider, ProviderContext } from "./provider.ts";

/** What not every provider can do; `lacks` says why one cannot, and its tests skip with that. */
export type Feature =
  /** Its machines run the program. */
  | "guest"
  /** It sees how a program ended. */
  | "exitCode"
  /** It finds the processes that left their session. */
  | "escapees"
  /** Its machines outlive the manager, whatever kills that. */
  | "survival"
  /** It makes machines of a named image. */
  | "image";

export interface Subject {
  readonly name: string;
  /** A module that exports `open(options, context)`; a killed manager opens it as well. */
  readonly module: string;
  readonly options: unknown;
  readonly open?: (context: ProviderContext) => Promise<Provider>;
  readonly lacks?: Partial<Record<Feature, string>>;
  /** In which a machine's program gets to its first words, on a host that is not busy. Default: 2. */
  readonly speakSeconds?: number;
  /** Why none of it can run here. */
  readonly skip?: string | false;
  /** What is left of a machine outside the provider's folder: containers, mounts, processes. */
  readonly leftovers?: (name: string) => Promise<readonly string[]>;
}

const timeout = 400_000;
/** Variables that a provider may add to those declared. */
const ambient =
  /^(PATH|HOME|TMPDIR|HOSTNAME|TERM|PWD|SHLVL|_|container|MAYFLY_MACHINE|MAYFLY_PROOF)$/;
/** Words that a shell, or a careless join, would spoil. */
const awkward = [
  "",
  " ",
  "a b",
  "$(id)",
  "`id`",
  "'\"",
  "*",
  "-rf",
  "--",
  "a\nb",
  "ü€\\",
  "#x",
  "{x}",
];

type Case = (world: World, provider: Provider, t: TestContext) => Promise<void>;

/** Registers the tests that every provider has to pass. */
export function conformance(subject: Subject): void {
  const test = (title: string, needs: Feature[], run: Case): void => {
    const missing = needs.map((need) => subject.lacks?.[need]).find((why) => why !== undefined);
    const skip = subject.skip || missing || false;
    it(title, { timeout, skip }, (t) =>
      inWorld(subject, (world, provider) => run(world, provider, t)),
    );
  };
  describe(`${subject.name} as a provider`, { concurrency: 1 }, () => {
    identity(test);
    programs(
      test,
      subject.lacks?.escapees === undefined ? "tree" : "stay",
      subject.speakSeconds ?? 2,
    );
    ends(test);
    refusals(test);
    if (!subject.lacks?.survival) survival(subject, test);
  });
}

type Register = (title: string, needs: Feature[], run: Case) => void;

async function inWorld(
  subject: Subject,
  run: (world: World, provider: Provider) => Promise<void>,
): Promise<void> {
  const world = await World.make((context) => opened(subject, context));
  const seen = new Set<string>();
  let passed = false;
  try {
    const provider = await world.open();
    const { create } = provider;
    provider.create = (spec, ...rest) => (
      seen.add(spec.name),
      create.call(provider, spec, ...rest)
    );
    await run(world, provider);
    passed = true;
  } finally {
    const left = [...(await world.close())];
    for (const name of seen) {
      if (!isOurs(world.installation, name) || subject.leftovers === undefined) continue;
      left.push(...(await subject.leftovers(name)));
    }
    if (passed) assert.deepEqual(left, [], "nothing of any machine is left");
  }
}

async function opened(subject: Subject, context: ProviderContext): Promise<Provider> {
  if (subject.open !== undefined) return subject.open(context);
  return (await import(subject.module)).open(subject.options, context);
}

function identity(test: Register): void {
  test(
    "makes a machine, lists it with its state, and destroys it until gone",
    [],
    async (world, provider) => {
      const spec = world.spec("1", provider);
      const before = Date.now();
      const made = await provider.create(spec, world.program(spec.name, "stay"), never);
      assert.equal(made.name, spec.name);
      // One that counts in seconds, by a file's time, may be that much behind, and a tick.
      assert.ok(made.createdAt >= before - 2_000 && made.createdAt <= Date.now() + 1_000);
      await until(
        "it to run",
        async () => (await listed(provider, spec.name))[0]?.state === "running",
      );
      const [seen, ...more] = await listed(provider, spec.name);
      assert.deepEqual(more, []);
      assert.deepEqual(seen, { ...made, state: "running", exitCode: null });
      await destroyed(provider, spec.name);
      assert.deepEqual(await provider.list(never), []);
    },
  );

  test("makes one machine under one name, one after the other", [], async (world, provider) => {
    const spec = world.spec("1", provider);
    const program = world.program(spec.name, "stay");
    const first = await provider.create(spec, program, never);
    const second = await provider.create(spec, program, never);
    assert.equal(second.handle, first.handle);
    assert.equal((await listed(provider, spec.name)).length, 1);
  });

  test("makes one machine under one name, all at once", [], async (world, provider) => {
    const spec = world.spec("1", provider);
    const program = world.program(spec.name, "stay");
    const make = () => provider.create(spec, program, never);
    const made = await Promise.all([make(), make(), make()]);
    assert.equal(new Set(made.map(({ handle }) => handle)).size, 1);
    assert.equal((await listed(provider, spec.name)).length, 1);
  });

  test(
    "runs the program once, though asked twice by two managers",
    ["survival", "guest"],
    async (world, provider) => {
      const other = await world.open();
      const spec = world.spec("1", provider);
      const program = world.program(spec.name, "exit", ["0"]);
      const made = await Promise.allSettled(
        [provider, other].map((each) => each.create(spec, program, never)),
      );
      for (const result of made) {
        if (result.status === "rejected") assert.equal(result.reason.kind, "unreachable");
      }
      await until("its end", async () => (await listed(other, spec.name))[0]?.state === "ended");
      const again = await provider.create(spec, program, never);
      assert.equal(again.state, "ended");
      assert.equal((await listed(provider, spec.name)).length, 1);
      // Its words may come after the news of its end.
      await world.voice(spec.name);
      assert.equal(world.voices(spec.name), 1);
    },
  );

  test(
    "lists only what begins with its installation and a dash",
    ["survival"],
    async (world, provider) => {
      const longer = `${world.installation}d`;
      const other = await world.open(longer);
      const mine = world.spec("1", provider);
      const theirs = { ...mine, name: `${longer}-1` };
      await provider.create(mine, world.program(mine.name, "stay"), never);
      await other.create(theirs, world.program(theirs.name, "stay"), never);
      const names = async (each: Provider) => (await each.list(never)).map(({ name }) => name);
      assert.deepEqual(await names(provider), [mine.name]);
      assert.deepEqual(await names(other), [theirs.name]);
      await assert.rejects(provider.destroy(theirs.name, never), { kind: "invalid" });
      assert.deepEqual(await names(other), [theirs.name]);
    },
  );

  test("refuses hostile names", [], async (world, provider) => {
    const spec = world.spec("1", provider);
    const program = world.program(spec.name, "stay");
    const refused = async (name: string): Promise<void> => {
      await assert.rejects(provider.create({ ...spec, name }, program, never), { kind: "invalid" });
      await assert.rejects(provider.destroy(name, never), { kind: "invalid" });
    };
    const { installation } = world;
    const tails = [
      "",
      "-",
      "-../x",
      "-a b",
      "-A",
      "-a\n",
      "-a/b",
      "-a.b",
      "-a\0",
      `-${"a".repeat(63)}`,
    ];
    for (const tail of tails) await refused(installation + tail);
    for (const name of ["", "-", "--help", "-f", "..", "other-1", "*"]) await refused(name);
    const hostile = fc.string().filter((name) => !isOurs(installation, name));
    const suffix = hostile.map((text) => `${installation}-${text}`);
    const bad = fc.oneof(
      hostile,
      suffix.filter((name) => !isOurs(installation, name)),
    );
    await fc.assert(fc.asyncProperty(bad, refused), { numRuns: 100 });
    assert.deepEqual(await provider.list(never), []);
  });
}

function programs(test: Register, deed: "stay" | "tree", deadlineSeconds: number): void {
  test(
    "hands over files with their modes, the command as given, and only declared variables",
    ["guest"],
    async (world, provider) => {
      const spec = world.spec("1", provider);
      const files = [
        { path: "run", mode: 0o755, content: "#!/bin/sh\n" },
        { path: "deep/er/secret", mode: 0o600, content: "s3cret ü\0\r\n" },
        { path: "empty", mode: 0o444, content: "" },
      ];
      const environment = Object.fromEntries(awkward.map((value, n) => [`V${n}`, value]));
      const places = { FILES: "{program}/deep", SOCKET: "unix:{guest}" };
      process.env["MAYFLY_TEST_SECRET"] = "not for the machine";
      process.env["http_proxy"] = "http://not.for.the.machine:1";
      try {
        const more = { files, environment: { ...environment, ...places } };
        const program = world.program(spec.name, "stay", ["{program}|{guest}", ...awkward], more);
        await provider.create(spec, program, never);
      } finally {
        delete process.env["MAYFLY_TEST_SECRET"];
        delete process.env["http_proxy"];
      }
      const voice = await world.voice(spec.name);
      const [placed = "", ...args] = voice.args;
      assert.deepEqual(args, awkward);
      assert.match(placed, /^\/.+\|\/.+\/guest\.sock$/);
      const [folder, socket] = placed.split("|");
      const { FILES, SOCKET, ...others } = voice.environment;
      assert.deepEqual([FILES, SOCKET], [`${folder}/deep`, `unix:${socket}`]);
      const declared = Object.entries(others).filter(([name]) => !ambient.test(name));
      assert.deepEqual(Object.fromEntries(declared), environment);
      const { "guest.pl": script, ...sent } = voice.files;
      assert.equal(script?.mode, "644");
      for (const { path, mode, content } of files) {
        assert.deepEqual(sent[path], { mode: mode.toString(8), content });
      }
      assert.equal(Object.keys(sent).length, files.length);
    },
  );

  test("sees how the program ended", ["guest", "exitCode"], async (world, provider) => {
    for (const code of [0, 7]) {
      const spec = world.spec(`${code}`, provider);
      await provider.create(spec, world.program(spec.name, "exit", [`${code}`]), never);
      await until("its end", async () => (await listed(provider, spec.name))[0]?.state === "ended");
      assert.equal((await listed(provider, spec.name))[0]?.exitCode, code);
    }
  });

  test(
    "ends a machine at its deadline, with all its processes",
    ["guest"],
    async (world, provider) => {
      const make = (spec: MachineSpec, program: Program) => provider.create(spec, program, never);
      const name = await endedInTime(world, provider, { deed, deadlineSeconds }, make);
      await destroyed(provider, name);
    },
  );

  test(
    "does not leave a machine whose command is not there running",
    ["guest"],
    async (world, provider) => {
      const spec = world.spec("1", provider);
      const command = ["/nonexistent/command"] as const;
      const program = { ...world.program(spec.name, "stay"), command };
      const refused = await provider.create(spec, program, never).catch((error) => error);
      if (refused instanceof ProviderError) return assert.equal(refused.kind, "invalid");
      await until("its end", async () => (await listed(provider, spec.name))[0]?.state === "ended");
      assert.notEqual((await listed(provider, spec.name))[0]?.exitCode, 0);
    },
  );

  test("refuses a program that climbs out or cannot be", [], async (world, provider) => {
    const spec = world.spec("1", provider);
    const good = world.program(spec.name, "stay");
    const file = { mode: 0o644, content: "" };
    const paths = ["../x", "/etc/x", "a/../../x", "", ".", "a//b", "a/", "a\0b", "x".repeat(5_000)];
    const bad = [
      ...paths.map((path) => ({ ...good, files: [{ ...file, path }] })),
      { ...good, files: [{ ...file, path: "x", mode: 0o4755 }] },
      { ...good, command: [] },
      { ...good, command: ["true", "a\0b"] },
      { ...good, environment: { "A=B": "c" } },
      { ...good, environment: { "": "c" } },
      { ...good, deadlineSeconds: 0 },
      { ...good, deadlineSeconds: Number.NaN },
    ];
    for (const program of bad) {
      await assert.rejects(provider.create(spec, program, never), { kind: "invalid" });
    }
    assert.deepEqual(await provider.list(never), []);
  });
}

function ends(test: Register): void {
  test(
    "ends all of a machine's processes, also those that left their session",
    ["guest", "escapees"],
    async (world, provider) => {
      const spec = world.spec("1", provider);
      await provider.create(spec, world.program(spec.name, "tree"), never);
      const voice = await world.voice(spec.name);
      await destroyed(provider, spec.name);
      await voice.over;
    },
  );

  test("destroys what is not there, twice, and all at once", [], async (world, provider) => {
    const spec = world.spec("1", provider);
    assert.equal(await provider.destroy(spec.name, never), "gone");
    await provider.create(spec, world.program(spec.name, "stay"), never);
    await Promise.all([1, 2, 3].map(() => destroyed(provider, spec.name)));
    assert.equal(await provider.destroy(spec.name, never), "gone");
    assert.deepEqual(await provider.list(never), []);
  });

  test("destroys a machine that is just being made", [], async (world, provider) => {
    const spec = world.spec("1", provider);
    const making = provider.create(spec, world.program(spec.name, "stay"), never);
    const [made] = await Promise.allSettled([making, provider.destroy(spec.name, never)]);
    if (made.status === "rejected") assert.ok(made.reason instanceof ProviderError);
    await destroyed(provider, spec.name);
    assert.deepEqual(await provider.list(never), []);
  });

  test("may use a name again once it is gone", [], async (world, provider) => {
    const spec = world.spec("1", provider);
    const program = world.program(spec.name, "stay");
    const first = await provider.create(spec, program, never);
    await destroyed(provider, spec.name);
    const second = await provider.create(spec, program, never);
    assert.equal(second.name, first.name);
    assert.equal((await listed(provider, spec.name)).length, 1);
  });

  test("gives up at once when told to, and tidies up after that", [], async (world, provider) => {
    const aborted = AbortSignal.abort();
    const spec = world.spec("1", provider);
    const program = world.program(spec.name, "stay");
    const unreachable = { name: "ProviderError", kind: "unreachable" };
    await assert.rejects(provider.create(spec, program, aborted), unreachable);
    await assert.rejects(provider.list(aborted), unreachable);
    await assert.rejects(provider.destroy(spec.name, aborted), unreachable);
    for (const [n, ms] of [0, 5, 20, 60, 120].entries()) {
      const each = world.spec(`${n}`, provider);
      const signal = AbortSignal.timeout(ms);
      const made = await provider.create(each, program, signal).catch((error) => error);
      if (made instanceof Error) assert.equal((made as ProviderError).kind, "unreachable");
      await destroyed(provider, each.name);
    }
    assert.deepEqual(await provider.list(never), []);
  });
}

function refusals(test: Register): void {
  test("refuses what no machine of it can be", [], async (world, provider) => {
    const spec = world.spec("1", provider);
    const program = world.program(spec.name, "stay");
    const { maximum, architectures, accepts } = provider.lends();
    const bad = [
      { size: { ...spec.size, cpu: maximum.cpu + 1 } },
      { size: { ...spec.size, cpu: 0 } },
      { size: { ...spec.size, memoryMb: maximum.memoryMb + 1 } },
      { size: { ...spec.size, memoryMb: Number.NaN } },
      { size: { ...spec.size, diskGb: maximum.diskGb + 1 } },
      { size: { ...spec.size, gpu: maximum.gpu + 1 } },
      { size: { ...spec.size, gpu: -1 } },
      ...(["x64", "arm64"] as const)
        .filter((architecture) => !architectures.includes(architecture))
        .map((architecture) => ({ size: { ...spec.size, architecture } })),
      ...(["trusted", "fork"] as const)
        .filter((trust) => !accepts.includes(trust))
        .map((trust) => ({ trust: ["trusted", trust] as const })),
    ];
    for (const wrong of bad) {
      const refused = provider.create({ ...spec, ...wrong }, program, never);
      await assert.rejects(refused, { kind: "invalid" }, JSON.stringify(wrong));
    }
    assert.deepEqual(await provider.list(never), []);
  });

  test("refuses an image that is not there", ["image"], async (world, provider) => {
    const spec = world.spec("1", provider);
    const program = world.program(spec.name, "stay");
    for (const image of ["localhost/mayfly-no-such-image:0", "NOT AN IMAGE", "--privileged", ""]) {
      const refused = provider.create({ ...spec, image }, program, never);
      await assert.rejects(refused, { kind: "invalid" }, image);
    }
    await destroyed(provider, spec.name);
  });

  test("says what it is, what it costs and what it needs", [], async (world, provider) => {
    const { architectures, maximum, accepts, labels } = provider.lends();
    assert.ok(architectures.length > 0 && accepts.length > 0 && labels.length > 0);
    assert.ok(maximum.cpu > 0 && maximum.memoryMb > 0 && maximum.diskGb > 0 && maximum.gpu >= 0);
    const price = provider.price(maximum);
    assert.ok(Number.isSafeInteger(price.microUsdPerHour) && price.microUsdPerHour >= 0);
    assert.ok(price.quantumSeconds > 0 && price.minimumSeconds >= 0);
    const checks = await provider.check(never);
    assert.ok(checks.length > 0);
    for (const check of checks) {
      assert.ok(check.detail !== "", `${check.name} has a detail`);
      if (!check.ok) assert.ok(check.mend, `${check.name} says how to mend it`);
    }
    await world.retire(await world.open());
  });
}

function survival(subject: Subject, test: Register): void {
  test(
    "finds and destroys the machines of a manager that was killed",
    ["guest"],
    async (world, provider, t) => {
      const spec = world.spec("1", provider);
      await killedManager(subject, world, { spec, program: world.program(spec.name, "stay") }, t);
      const voice = await world.voice(spec.name);
      assert.deepEqual(
        (await provider.list(never)).map(({ name, state }) => [name, state]),
        [[spec.name, "running"]],
      );
      await destroyed(provider, spec.name);
      await voice.over;
      assert.deepEqual(await provider.list(never), []);
      for (const left of (await subject.leftovers?.(spec.name)) ?? []) assert.fail(left);
    },
  );

  test(
    "ends a machine at its deadline though no manager is left",
    ["guest"],
    async (world, provider, t) => {
      const deadlineSeconds = (subject.speakSeconds ?? 2) + 1;
      const make = (spec: MachineSpec, program: Program) =>
        killedManager(subject, world, { spec, program }, t);
      await endedInTime(world, provider, { deed: "stay", deadlineSeconds }, make);
    },
  );
}

/**
 * Has a machine made that speaks and then is ended at its deadline, all of it; gives its name. On a
 * busy host the deadline may come before its first words: then another gets four times as long.
 */
async function endedInTime(
  world: World,
  provider: Provider,
  { deed, deadlineSeconds }: { deed: "stay" | "tree"; deadlineSeconds: number },
  make: (spec: MachineSpec, program: Program) => Promise<unknown>,
): Promise<string> {
  for (let n = 1, seconds = deadlineSeconds; ; n += 1, seconds *= 4) {
    const spec = world.spec(`${n}`, provider);
    const { name } = spec;
    const isOver = async () => (await listed(provider, name))[0]?.state === "ended";
    await make(spec, world.program(name, deed, [], { deadlineSeconds: seconds }));
    const isHeard = () => world.voices(name) > 0;
    await until(`${name} to speak or end`, async () => (await isOver()) || isHeard(), 300_000);
    if (!isHeard() && seconds < 60) {
      await destroyed(provider, name);
      continue;
    }
    await (
      await world.voice(name)
    ).over;
    await until("its end", isOver);
    return name;
  }
}

/** Has another process make the machine, and kills that process. */
async function killedManager(
  subject: Subject,
  world: World,
  order: Pick<ManagerOrder, "spec" | "program">,
  t: TestContext,
): Promise<void> {
  const { now: _now, log: _log, ...context } = world.context();
  const { module, options } = subject;
  const whole: ManagerOrder = { ...order, module, options, context };
  const script = fileURLToPath(new URL("conformance-manager.ts", import.meta.url));
  const manager = spawn(process.execPath, [script, JSON.stringify(whole)], {
    stdio: ["ignore", "pipe", "inherit"],
    signal: t.signal,
    killSignal: "SIGKILL",
  });
  manager.on("error", () => {});
  const [first] = await once(manager.stdout.setEncoding("utf8"), "data");
  assert.equal(first, "made\n");
  const closed = once(manager, "exit");
  manager.kill("SIGKILL");
  await closed;
}
