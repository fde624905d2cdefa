import { mkdir, statfs } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { free, type Price } from "../../domain/money.ts";
import type { Program } from "../../domain/program.ts";
import { hostArchitecture, hostSize, Turns, untilAborted } from "../local.ts";
import { isOurs, refuseName, refuseUnfit } from "../names.ts";
import { place, refuseProgram } from "../program.ts";
import type { Capabilities, Check, Machine, MachineSpec } from "../provider.ts";
import type { Provider, ProviderContext } from "../provider.ts";
import {
  guestFolder,
  programFolder,
  rootUid,
  runArguments,
  type RunArguments,
} from "./arguments.ts";
import { checkPodman } from "./check.ts";
import { Containers, type Container } from "./containers.ts";
import { DiskWatch } from "./disk-watch.ts";
import { Podman } from "./engine.ts";
import { baseImage, ensureImage } from "./image.ts";
import { endLeftovers } from "./leftovers.ts";
import { MachineFolders } from "./machine-folder.ts";
import { refuseMounts } from "./mounts.ts";
import type { PodmanOptions } from "./options.ts";
import { failureOf, isNameInUse } from "./outcome.ts";
import { findPowers, type Powers } from "./powers.ts";

export { checkPodman as check };

/** A folder without a container is one being made, for this long; then it is a leftover. */
const makingMs = 120_000;

/**
 * Opens the provider. The first time after a boot it tries out what podman can do here, which takes
 * a second; it throws `invalid` when podman starts no container, with what to do.
 */
export async function open(options: PodmanOptions, context: ProviderContext): Promise<Provider> {
  await refuseMounts(options.mounts, context);
  const folders = new MachineFolders(join(context.folder, "machines"));
  await mkdir(folders.path, { recursive: true, mode: 0o700 });
  const powers = await findPowers(context.folder, new AbortController().signal);
  const podman =
    options.containersConf === undefined
      ? await Podman.configured(context.folder, "containers.conf", powers)
      : new Podman(options.containersConf);
  const architecture = hostArchitecture();
  const { bsize, blocks } = await statfs(powers.graphRoot);
  const maximum = await hostSize(context.folder);
  const lends: Capabilities = {
    architectures: architecture === null ? [] : [architecture],
    maximum: { ...maximum, diskGb: Math.max(1, Math.floor((bsize * blocks) / 2 ** 30)) },
    channel: "socket",
    // Without both, a stranger's job could be root here, or take the whole host.
    accepts: powers.userNamespace && powers.limits ? ["trusted", "fork"] : ["trusted"],
    labels: ["podman"],
  };
  return new PodmanProvider(options, context, podman, powers, folders, lends);
}

/** Each machine is a container, which podman's own conmon watches: it outlives this manager. */
class PodmanProvider implements Provider {
  readonly name: string;
  readonly #options: PodmanOptions;
  readonly #context: ProviderContext;
  readonly #podman: Podman;
  readonly #powers: Powers;
  readonly #folders: MachineFolders;
  readonly #lends: Capabilities;
  readonly #containers: Containers;
  readonly #disk: DiskWatch | null;
  readonly #turns = new Turns();
  readonly #making = new Map<string, AbortController>();
  /** Machines that podman has removed itself. */
  readonly #gone = new Set<string>();

  constructor(
    options: PodmanOptions,
    context: ProviderContext,
    podman: Podman,
    powers: Powers,
    folders: MachineFolders,
    lends: Capabilities,
  ) {
    this.name = context.name;
    this.#options = options;
    this.#context = context;
    this.#podman = podman;
    this.#powers = powers;
    this.#folders = folders;
    this.#lends = lends;
    this.#containers = new Containers(podman, context);
    this.#disk = powers.quota ? null : new DiskWatch(this.#containers, context);
  }

  async create(spec: MachineSpec, program: Program, signal: AbortSignal): Promise<Machine> {
    refuseName(this.#context.installation, spec.name);
    refuseUnfit(spec, this.#lends);
    refuseProgram(program);
    const image = imageOf(spec, this.#options);
    const placed = place(program, { program: programFolder, guest: `${guestFolder}/guest.sock` });
    return attempt(signal, () =>
      this.#turns.take(spec.name, async () => {
        const stop = new AbortController();
        this.#making.set(spec.name, stop);
        try {
          const either = AbortSignal.any([signal, stop.signal]);
          return await this.#make({ spec, program, placed, image }, either);
        } finally {
          this.#making.delete(spec.name);
        }
      }),
    );
  }

  async list(signal: AbortSignal): Promise<readonly Machine[]> {
    return attempt(signal, async () => {
      // The folders first: a machine that comes up in between then shows by its container.
      const folders = await this.#folders.all();
      const containers = await this.#containers.all(signal);
      this.#disk?.look(containers);
      const machines = containers.map(machineOf);
      for (const { name } of machines) folders.delete(name);
      for (const [name, createdAt] of folders) {
        if (!isOurs(this.#context.installation, name)) continue;
        const state = this.#context.now() - createdAt < makingMs ? "booting" : "ended";
        machines.push({ name, state, handle: "", createdAt, exitCode: null });
      }
      return machines;
    });
  }

  async destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending"> {
    refuseName(this.#context.installation, name);
    return attempt(signal, () => {
      this.#making.get(name)?.abort();
      return this.#turns.take(name, async () => {
        if (this.#gone.delete(name)) {
          await this.#folders.remove(name);
          return "gone";
        }
        if (!(await this.#containers.remove(name, signal))) return "ending";
        const cid = await this.#folders.cid(name);
        const { runtime } = this.#powers;
        if (cid !== null && !(await endLeftovers(cid, runtime, signal))) return "ending";
        await this.#folders.remove(name);
        return "gone";
      });
    });
  }

  price(): Price {
    return free;
  }

  lends(): Capabilities {
    return this.#lends;
  }

  check(signal: AbortSignal): Promise<readonly Check[]> {
    return checkPodman(this.#options, this.#context, signal);
  }

  async prepare(progress: (line: string) => void, signal: AbortSignal): Promise<void> {
    if (this.#options.image !== undefined) return;
    const { folder } = this.#context;
    const places = { folder, graphRoot: this.#powers.graphRoot };
    await attempt(signal, () => ensureImage(this.#podman, places, progress, signal));
  }

  async close(): Promise<void> {
    for (const stop of this.#making.values()) stop.abort();
    await this.#disk?.close();
  }

  async #make(order: Order, signal: AbortSignal): Promise<Machine> {
    const { spec, program, placed } = order;
    const { name } = spec;
    if (signal.aborted) throw new ProviderError("unreachable", `${name} was not made`);
    const owner = rootUid(name, this.#powers);
    const present = await this.#folders.make(name, program, placed, owner);
    if (present !== "made") {
      const known = await this.#resume(name, signal);
      if (known !== null) return known;
      if (present === "other") await this.#folders.remove(name);
      else await this.#folders.forgetCid(name);
      await this.#folders.make(name, program, placed, owner);
    }
    const createdAt = this.#context.now();
    const run = { ...order, folder: this.#folders.of(name), createdAt };
    const args = runArguments(run, this.#options, this.#powers, this.#context);
    const { stays } = this.#context;
    const running = this.#podman.run(args, signal, { isMute: stays !== undefined });
    stays?.();
    const { code, stdout, stderr } = await running;
    if (stays !== undefined && code !== null && !/^Error: /m.test(stderr)) {
      // podman says so when it could not remove what it ran.
      if (stderr === "") this.#gone.add(name);
      const handle = (await this.#folders.cid(name)) ?? "";
      return { name, state: "ended", handle, createdAt, exitCode: code };
    }
    const handle = stdout.trim();
    if (code === 0) return { name, state: "running", handle, createdAt, exitCode: null };
    if (isNameInUse(stderr)) {
      const known = await this.#resume(name, signal);
      if (known !== null) return known;
      throw new ProviderError("unreachable", "another container has this name, or is being made");
    }
    const failure = failureOf(`${name} could not be made`, stderr);
    // It can never run, so nobody has to come back for what there is of it.
    if (failure.kind === "invalid" && (await this.#containers.remove(name, signal))) {
      await this.#folders.remove(name);
    }
    throw failure;
  }

  /**
   * The machine that is there already, started if whoever made it did not come to that. Null: there
   * is none, or one that cannot be started, since its podman was cut short; that is removed.
   */
  async #resume(name: string, signal: AbortSignal): Promise<Machine | null> {
    const container = await this.#containers.find(name, signal);
    if (container === null) return null;
    if (container.state !== "booting") return machineOf(container);
    if (await this.#containers.start(container, signal)) {
      return { ...machineOf(container), state: "running" };
    }
    const again = await this.#containers.find(name, signal);
    if (again !== null && again.state !== "booting") return machineOf(again);
    await this.#containers.remove(name, signal);
    return null;
  }
}

/** What `create` was asked for, checked and placed. */
type Order = Omit<RunArguments, "folder" | "createdAt">;

function imageOf(spec: MachineSpec, options: PodmanOptions): string {
  const image = spec.image ?? options.image ?? baseImage;
  if (image.length <= 255 && /^[A-Za-z0-9][A-Za-z0-9_.:/@-]*$/.test(image)) return image;
  throw new ProviderError("invalid", "an image's name begins with a letter and has no spaces");
}

function machineOf({ id, name, state, exitCode, createdAt }: Container): Machine {
  return { name, state, handle: id, createdAt, exitCode };
}

async function attempt<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  if (signal.aborted) throw new ProviderError("unreachable", "the call was given up");
  try {
    return await untilAborted(signal, work());
  } catch (error) {
    if (error instanceof ProviderError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOSPC" && code !== "EDQUOT") throw new ProviderError("unreachable", message);
    throw new ProviderError("quota", `the host's disk is full: ${message}`);
  }
}
