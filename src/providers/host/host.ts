import { spawn } from "node:child_process";
import { mkdir, readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { free, type Price } from "../../domain/money.ts";
import type { Program } from "../../domain/program.ts";
import { firstLine, runTool } from "../child.ts";
import {
  attempt,
  hostArchitecture,
  hostSize,
  ignoreMissing,
  perlMend,
  refuseAborted,
  bareEnvironment,
  Turns,
} from "../local.ts";
import { isOurs, refuseName, refuseUnfit } from "../names.ts";
import { refuseProgram } from "../program.ts";
import type { Capabilities, Check, Machine, MachineSpec } from "../provider.ts";
import type { Provider, ProviderContext } from "../provider.ts";
import { describe, endMarked, endOverseer, overseerOf } from "../overseer.ts";
import { removeWhole } from "../whole-folder.ts";
import { judge, makeMachineFolder } from "./machine-folder.ts";
import type { HostOptions } from "./options.ts";
import { supervisorScript } from "./supervisor.ts";

/** A supervisor starts its program in some 20 ms; a host this slow has other troubles. */
const startMs = 30_000;
/** How long `destroy` waits for processes before it says `ending`. */
const patience = { politeMs: 2_500, patienceMs: 5_000 };

/** Opens the provider on `context.folder`; machines of an earlier manager are found there. */
export async function open(_options: HostOptions, context: ProviderContext): Promise<Provider> {
  const machines = join(context.folder, "machines");
  await mkdir(machines, { recursive: true, mode: 0o700 });
  const script = join(context.folder, "supervise.pl");
  await writeFile(`${script}.${process.pid}`, supervisorScript, { mode: 0o600 });
  await rename(`${script}.${process.pid}`, script);
  const architecture = hostArchitecture();
  const lends: Capabilities = {
    architectures: architecture === null ? [] : [architecture],
    maximum: await hostSize(context.folder),
    channel: "socket",
    accepts: ["trusted"],
    labels: ["host"],
  };
  return new Host(context, machines, script, lends);
}

/** A plain process tree in a scratch folder: no isolation at all, so for trusted jobs only. */
class Host implements Provider {
  readonly name: string;
  readonly #context: ProviderContext;
  readonly #machines: string;
  readonly #script: string;
  readonly #lends: Capabilities;
  readonly #turns = new Turns();

  constructor(context: ProviderContext, machines: string, script: string, lends: Capabilities) {
    this.name = context.name;
    this.#context = context;
    this.#machines = machines;
    this.#script = script;
    this.#lends = lends;
  }

  async create(spec: MachineSpec, program: Program, signal: AbortSignal): Promise<Machine> {
    refuseName(this.#context.installation, spec.name);
    refuseUnfit(spec, this.#lends);
    if (spec.image !== null) throw new ProviderError("invalid", "a process here has no image");
    refuseProgram(program);
    return attempt(signal, () =>
      this.#turns.take(spec.name, async () => {
        refuseAborted(signal);
        const folder = join(this.#machines, spec.name);
        await makeMachineFolder(folder, program, this.#context);
        if ((await overseerOf(folder)) === null) await this.#start(folder, program, signal);
        const machine = await describe(this.#machines, spec.name, this.#context.now(), judge);
        if (machine !== null) return machine;
        throw new ProviderError("unreachable", `${spec.name} was removed while it was made`);
      }),
    );
  }

  async list(signal: AbortSignal): Promise<readonly Machine[]> {
    return attempt(signal, async () => {
      const names = await readdir(this.#machines);
      const ours = names.filter((name) => isOurs(this.#context.installation, name));
      const now = this.#context.now();
      const found = await Promise.all(
        ours.map((name) => describe(this.#machines, name, now, judge)),
      );
      return found.filter((machine) => machine !== null);
    });
  }

  async destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending"> {
    refuseName(this.#context.installation, name);
    return attempt(signal, () =>
      this.#turns.take(name, async () => {
        refuseAborted(signal);
        const folder = join(this.#machines, name);
        // A supervisor that starts just now looks for this before it starts anything.
        await writeFile(join(folder, "stop"), "").catch(ignoreMissing);
        const ended =
          (await endOverseer(folder, patience, signal)) && (await endMarked(folder, signal));
        return ended && (await removeWhole(folder, signal)) ? "gone" : "ending";
      }),
    );
  }

  price(): Price {
    return free;
  }

  lends(): Capabilities {
    return this.#lends;
  }

  async check(signal: AbortSignal): Promise<readonly Check[]> {
    const { platform, arch } = process;
    const supported = hostArchitecture() !== null && ["linux", "darwin"].includes(platform);
    const mend = supported ? null : "use Linux or macOS on x64 or arm64";
    const checks = [{ name: "system", ok: supported, detail: `${platform} ${arch}`, mend }];
    const perl = await runTool("perl", ["-MTime::HiRes", "-e", "print $^V"], {
      signal,
      environment: bareEnvironment(),
      mend: perlMend,
    }).catch((error: ProviderError) => ({ code: null, stdout: "", stderr: error.message }));
    const ok = perl.code === 0;
    const detail = ok ? perl.stdout : perl.stderr.trim();
    return [...checks, { name: "perl", ok, detail, mend: ok ? null : perlMend }];
  }

  async prepare(): Promise<void> {}

  async close(): Promise<void> {}

  /** Starts the supervisor and waits for its word. That it has one already is as good. */
  async #start(folder: string, program: Program, signal: AbortSignal): Promise<void> {
    const seconds = Math.ceil(program.deadlineSeconds);
    const answer = await firstLine(
      spawn("perl", [this.#script, folder, String(seconds)], {
        detached: true,
        stdio: ["ignore", "pipe", "ignore"],
        env: bareEnvironment(),
      }),
      AbortSignal.any([signal, AbortSignal.timeout(startMs)]),
    );
    if (["started", "taken", "over"].includes(answer)) return;
    await endOverseer(folder, patience, signal);
    await removeWhole(folder, signal);
    // As on a full disk, where it cannot even note its pid: the same may work in a while.
    if (answer === "")
      throw new ProviderError("unreachable", "its supervisor ended without a word");
    const why = answer.replace(/^failed /, "");
    throw new ProviderError("invalid", `${program.command[0]} cannot be run: ${why}`);
  }
}
