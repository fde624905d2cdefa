/*
 * An exec provider that several managers share, as a program: `node machines.ts WORLD REPLICA`.
 * Machines are process groups that outlive everybody, each with a folder in WORLD/machines; what
 * was asked and what came of it is appended to WORLD/journal by all of them.
 */
import { spawn } from "node:child_process";
import { appendFileSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import type { Program } from "../../src/domain/program.ts";

const [, , world = "", replica = ""] = process.argv;
const machines = join(world, "machines");

export interface JournalEntry {
  readonly at: number;
  /** Of the provider's program. */
  readonly pid: number;
  readonly replica: string;
  readonly name: string;
  /** `asked` to make it; `made`; it was there `already`; told to end (`ending`); `gone`. */
  readonly what: "asked" | "made" | "already" | "ending" | "gone";
}

function note(name: string, what: JournalEntry["what"]): void {
  appendFileSync(
    join(world, "journal"),
    `${JSON.stringify({ at: Date.now(), pid: process.pid, replica, name, what })}\n`,
  );
}

function machine(name: string): object {
  const folder = join(machines, name);
  const exit = join(folder, "exit");
  const exitCode = existsSync(exit) ? Number(readFileSync(exit, "utf8")) : null;
  const state = exitCode === null ? "running" : "ended";
  return { name, handle: folder, state, createdAt: statSync(folder).mtimeMs, exitCode };
}

/** As slow as told, so that whoever asked may be gone when it takes effect. */
async function create(name: string, program: Program): Promise<object> {
  note(name, "asked");
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 400));
  const folder = join(machines, name);
  try {
    mkdirSync(folder);
  } catch {
    note(name, "already");
    return machine(name);
  }
  note(name, "made");
  for (const { path, content, mode } of program.files) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), content, { mode });
  }
  const place = (text: string): string => text.replaceAll("{program}", folder);
  const environment = Object.entries(program.environment).map(([key, value]) => [
    key,
    place(value),
  ]);
  const script = 'trap "" PIPE; cd "$0" && "$@"; echo $? > exit.new; mv exit.new exit';
  const child = spawn("sh", ["-c", script, folder, ...program.command.map(place)], {
    detached: true,
    stdio: "ignore",
    env: { PATH: process.env["PATH"], ...Object.fromEntries(environment) },
  });
  child.unref();
  // Whole or not at all: half a number would be another group, and none our own.
  writeFileSync(join(folder, "pid.new"), `${child.pid}`);
  renameSync(join(folder, "pid.new"), join(folder, "pid"));
  return machine(name);
}

function destroy(name: string): "gone" | "ending" {
  const folder = join(machines, name);
  if (!existsSync(folder)) {
    note(name, "gone");
    return "gone";
  }
  if (endGroup(folder)) {
    note(name, "ending");
    return "ending";
  }
  // First, so that whoever finds nothing left finds it noted, and the next of this name comes after.
  note(name, "gone");
  rmSync(folder, { recursive: true, force: true });
  return "gone";
}

/** Long beyond what making one takes. */
const madeMs = 30_000;

/** Kills what still runs of a machine; false when nothing does. */
function endGroup(folder: string): boolean {
  const pid = join(folder, "pid");
  // Another program is just making it, unless it was killed over it.
  if (!existsSync(pid)) return Date.now() - statSync(folder).birthtimeMs < madeMs;
  try {
    process.kill(-Number(readFileSync(pid, "utf8")), "SIGKILL");
    return true;
  } catch {
    return false;
  }
}

const architecture = process.arch === "arm64" ? "arm64" : "x64";
const hello = {
  protocol: 1,
  capabilities: {
    architectures: [architecture],
    maximum: { cpu: 8, memoryMb: 8192, diskGb: 100, gpu: 0, architecture },
    channel: "url",
    accepts: ["trusted"],
  },
};

interface Params {
  readonly spec: { readonly name: string };
  readonly program: Program;
  readonly name: string;
}

const methods: Record<string, (params: Params) => unknown> = {
  hello: () => hello,
  check: () => [],
  list: () => readdirSync(machines).map(machine),
  create: ({ spec, program }) => create(spec.name, program),
  destroy: ({ name }) => destroy(name),
};

// Who asked may be gone by the time of the answer.
process.stdout.on("error", () => {});
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line) as { id: number; method: string; params: Params };
  const run = methods[method];
  if (run === undefined) continue;
  // Not awaited: what was begun ends, also after whoever asked was killed.
  void (async () => run(params))().then(
    (result) => process.stdout.write(`${JSON.stringify({ id, result })}\n`),
    (error: unknown) =>
      process.stdout.write(
        `${JSON.stringify({ id, error: { kind: "unreachable", message: String(error) } })}\n`,
      ),
  );
}
