import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { free, type Price } from "../../domain/money.ts";
import type { Program } from "../../domain/program.ts";
import type { Architecture } from "../../domain/size.ts";
import { firstLine } from "../child.ts";
import {
  attempt,
  ignoreMissing,
  refuseAborted,
  bareEnvironment,
  Turns,
  untilAborted,
} from "../local.ts";
import { isOurs, refuseName, refuseUnfit } from "../names.ts";
import { refuseProgram } from "../program.ts";
import type { Capabilities, Check, Machine, MachineSpec } from "../provider.ts";
import type { Provider, ProviderContext } from "../provider.ts";
import { describe, endMarked, endOverseer, overseerOf } from "../overseer.ts";
import { removeWhole } from "../whole-folder.ts";
import { qemuCommand, type Guest } from "./arguments.ts";
import { checkQemu, lendsOf } from "./check.ts";
import { failureOf } from "./faults.ts";
import { defaultImage, guestOf, imageFor, programOf, scratchBytesOf } from "./guests.ts";
import { verifyOnce } from "./image/images.ts";
import { variants } from "./image/recipe.ts";
import { findLoad, refuseOverload } from "./load.ts";
import { endOf, judge, makeMachineFolder, memoryOf } from "./machine-folder.ts";
import type { QemuOptions } from "./options.ts";
import { gateFault, gateMend } from "./reach.ts";
import { Templates, type Template } from "./template.ts";
import { tryImage } from "./try-image.ts";

export { checkQemu as check };

/** A keeper starts QEMU in some 100 ms; a host this slow has other troubles. */
const startMs = 30_000;
/** How long a keeper is waited for. */
const patience = { politeMs: 6_000, patienceMs: 8_000 };
/** The inside beats each 5 s; a guest this long without a sign is lost. */
const silenceSeconds = 60;

/**
 * Opens the provider. The first time after a boot it finds out by a trial boot whether KVM works,
 * which takes up to 15 s; without an image that is put off.
 */
export async function open(options: QemuOptions, context: ProviderContext): Promise<Provider> {
  const machines = join(context.folder, "machines");
  await mkdir(machines, { recursive: true, mode: 0o700 });
  const script = join(context.folder, "keeper.pl");
  await putScript(new URL("./keeper.pl", import.meta.url), script);
  const gate = join(context.folder, "gate.pl");
  await putScript(new URL("./gate.pl", import.meta.url), gate);
  const templates = new Templates(join(context.folder, "templates"));
  await templates.tidy();
  const { capabilities, warning } = await lendsOf(options, context);
  if (warning !== null) context.log.warn({ provider: context.name }, warning);
  return new QemuProvider(options, context, { machines, script, gate, templates }, capabilities);
}

/** Copies a script to where machines that outlive this release still find it. */
async function putScript(source: URL, script: string): Promise<void> {
  const draft = `${script}.${randomBytes(6).toString("hex")}`;
  await writeFile(draft, await readFile(source), { mode: 0o600 });
  await rename(draft, script);
}

interface Places {
  readonly machines: string;
  readonly script: string;
  readonly gate: string;
  readonly templates: Templates;
}

/** Each machine is a QEMU below a keeper of its own, which outlives this manager. */
class QemuProvider implements Provider {
  readonly name: string;
  readonly #options: QemuOptions;
  readonly #context: ProviderContext;
  readonly #places: Places;
  #lends: Capabilities;
  #cannotCopy = false;
  readonly #turns = new Turns();
  /** Machines whose end was told. */
  readonly #told = new Set<string>();

  constructor(
    options: QemuOptions,
    context: ProviderContext,
    places: Places,
    capabilities: Capabilities,
  ) {
    this.name = context.name;
    this.#options = options;
    this.#context = context;
    this.#places = places;
    this.#lends = capabilities;
  }

  async create(spec: MachineSpec, program: Program, signal: AbortSignal): Promise<Machine> {
    refuseName(this.#context.installation, spec.name);
    refuseUnfit(spec, this.#lends);
    refuseProgram(program);
    const given = programOf(spec, program, this.#options);
    return attempt(signal, async () => {
      const { architecture } = spec.size;
      const image = await imageFor(spec.image, architecture, this.#options, this.#context);
      await verifyOnce(image);
      const { folder } = this.#context;
      const guest = await guestOf(spec, image, this.#options, folder, signal);
      if (guest.network === "gated") await refuseNoGate();
      const isThere = await exists(join(this.#places.machines, spec.name));
      const template = isThere ? null : await this.#template(spec, guest, signal);
      const order = { spec, guest, given, seconds: Math.ceil(program.deadlineSeconds), template };
      return this.#turns.take(spec.name, () => this.#make(order, signal));
    });
  }

  async list(signal: AbortSignal): Promise<readonly Machine[]> {
    return attempt(signal, async () => {
      const names = await this.#names();
      const now = this.#context.now();
      const found = await Promise.all(
        names.map((name) => describe(this.#places.machines, name, now, judge)),
      );
      const machines = found.filter((machine) => machine !== null);
      await Promise.all(machines.map((machine) => this.#tell(machine)));
      return machines;
    });
  }

  async destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending"> {
    refuseName(this.#context.installation, name);
    return attempt(signal, () =>
      this.#turns.take(name, async () => {
        refuseAborted(signal);
        const folder = join(this.#places.machines, name);
        // A keeper that starts just now looks for this before it starts anything.
        await writeFile(join(folder, "stop"), "").catch(ignoreMissing);
        if (!(await endOverseer(folder, patience, signal)) || !(await endMarked(folder, signal)))
          return "ending";
        this.#told.delete(name);
        return (await removeWhole(folder, signal)) ? "gone" : "ending";
      }),
    );
  }

  price(): Price {
    return free;
  }

  lends(): Capabilities {
    return this.#lends;
  }

  check(signal: AbortSignal): Promise<readonly Check[]> {
    return checkQemu(this.#options, this.#context, signal);
  }

  /** Builds the image where there is none and the configuration names one that can be built. */
  async prepare(progress: (line: string) => void, signal: AbortSignal): Promise<void> {
    const options = this.#options;
    const [architecture] = this.#lends.architectures;
    if (architecture === undefined || (await hasImage(architecture, options, this.#context)))
      return;
    const variant = variants.find((each) => each === (options.image ?? defaultImage));
    // Throws, with what to do.
    if (variant === undefined)
      return void (await imageFor(null, architecture, options, this.#context));
    const { buildImage } = await import("./image/build.ts");
    const folder = join(this.#context.stateFolder, "images");
    const wanted = { folder, variant, architecture, suite: null, check: tryImage };
    await buildImage(wanted, progress, signal);
    const { capabilities, warning } = await lendsOf(options, this.#context);
    this.#lends = capabilities;
    if (warning !== null) this.#context.log.warn({ provider: this.name }, warning);
  }

  async close(): Promise<void> {
    await this.#places.templates.close();
  }

  async #names(): Promise<string[]> {
    const names = await readdir(this.#places.machines);
    return names.filter((name) => isOurs(this.#context.installation, name));
  }

  async #make(order: Order, signal: AbortSignal): Promise<Machine> {
    refuseAborted(signal);
    const { machines } = this.#places;
    const { name } = order.spec;
    const folder = join(machines, name);
    if (!(await exists(folder))) {
      await this.#refuseOverload(order.spec);
      await this.#write(folder, order);
    }
    if ((await overseerOf(folder)) === null) {
      const fault = await this.#start(folder, signal).catch(
        async (error: NodeJS.ErrnoException) => {
          // Nothing was started, so there is no machine.
          if (error.syscall?.startsWith("spawn") === true) await removeWhole(folder, signal);
          throw error;
        },
      );
      if (fault !== null) {
        await this.#forget(folder, signal);
        if (order.template === null) throw failureOf(fault);
        // What a template was made by may have changed: once more, without it.
        const { spec, guest } = order;
        await this.#places.templates.drop(guest, scratchBytesOf(spec, this.#options));
        return this.#make({ ...order, template: null }, signal);
      }
    }
    const machine = await describe(machines, name, this.#context.now(), judge);
    if (machine !== null) return machine;
    throw new ProviderError("unreachable", `${name} was removed while it was made`);
  }

  async #write(folder: string, order: Order): Promise<void> {
    const { spec, guest, given, seconds, template } = order;
    const options = this.#options;
    const scratchBytes = scratchBytesOf(spec, options);
    const memory = template === null ? null : { path: template.memory, shared: false };
    const command = qemuCommand({ ...guest, memory, incoming: template !== null });
    const settings = {
      guest: join(this.#context.guestFolder, "guest.sock"),
      boot: String(options.bootSeconds),
      deadline: String(seconds),
      silence: String(silenceSeconds),
      ...(template === null ? {} : { state: template.state }),
      ...(guest.network === "gated"
        ? { gate: this.#places.gate, reach: options.reach.join() }
        : {}),
      ...(options.outlive ? {} : { parent: "1" }),
    };
    const createdAt = this.#context.now();
    const { memoryMb } = spec.size;
    const orders = { command, settings, program: given, scratchBytes, createdAt, memoryMb };
    await makeMachineFolder(folder, orders);
  }

  /**
   * What to restore from. The first machine of its kind waits until one like it has booted; were it
   * to boot by itself beside that, both would take longer. Null: each boots for itself.
   */
  async #template(spec: MachineSpec, guest: Guest, signal: AbortSignal): Promise<Template | null> {
    if (!this.#options.snapshot || this.#cannotCopy) return null;
    const { templates } = this.#places;
    const scratchBytes = scratchBytesOf(spec, this.#options);
    const found = await templates.find(guest, scratchBytes);
    if (found !== null) return found;
    await this.#refuseOverload(spec);
    try {
      await untilAborted(signal, templates.make(guest, scratchBytes));
      return await templates.find(guest, scratchBytes);
    } catch (error) {
      if (signal.aborted || !(error instanceof ProviderError)) throw error;
      this.#cannotCopy = true;
      const fields = { provider: this.name, error: error.message };
      this.#context.log.warn(fields, "no machine to copy could be made: each boots for itself");
      return null;
    }
  }

  async #refuseOverload({ size }: MachineSpec): Promise<void> {
    const { machines } = this.#places;
    const now = this.#context.now();
    const others: number[] = [];
    for (const name of await this.#names()) {
      const machine = await describe(machines, name, now, judge);
      if (machine === null || machine.state === "ended") continue;
      others.push(await memoryOf(join(machines, name)));
    }
    refuseOverload(await findLoad(), size.memoryMb, others, this.#options);
  }

  /** Starts the keeper and waits for its word; null: it runs, or ran. Otherwise what went wrong. */
  async #start(folder: string, signal: AbortSignal): Promise<string | null> {
    const { outlive } = this.#options;
    const child = spawn("perl", [this.#places.script, folder], {
      detached: true,
      stdio: [outlive ? "ignore" : "pipe", "pipe", "ignore"],
      env: { ...bareEnvironment(), MAYFLY_MACHINE: folder },
    });
    if (child.stdin !== null && "unref" in child.stdin) (child.stdin as { unref(): void }).unref();
    const limit = AbortSignal.any([signal, AbortSignal.timeout(startMs)]);
    const answer = await firstLine(child, limit);
    if (["started", "taken", "over"].includes(answer)) return null;
    // As on a full disk, where it cannot even note its pid: the same may work in a while.
    if (answer === "") throw new ProviderError("unreachable", "its keeper ended without a word");
    return answer.replace(/^failed /, "");
  }

  async #forget(folder: string, signal: AbortSignal): Promise<void> {
    await endOverseer(folder, patience, signal);
    await removeWhole(folder, signal);
  }

  /** Tells the operator, once, of an end that was not its program's. */
  async #tell({ name, state, end }: Machine): Promise<void> {
    if (state !== "ended" || end === undefined || this.#told.has(name)) return;
    this.#told.add(name);
    const noted = await endOf(join(this.#places.machines, name));
    if (noted?.how === "stopped") return;
    const fields = { provider: this.name, machine: name, end: noted?.how ?? "lost" };
    this.#context.log.warn(fields, end);
  }
}

/** What `create` was asked for, checked. */
interface Order {
  readonly spec: MachineSpec;
  readonly guest: Guest;
  readonly given: string;
  readonly seconds: number;
  /** What it is a copy of; null: it boots. */
  readonly template: Template | null;
}

/** A machine that should reach the internet and could reach nothing is not made. */
async function refuseNoGate(): Promise<void> {
  const fault = await gateFault();
  if (fault === null) return;
  throw new ProviderError("invalid", `no network for strangers' jobs: ${fault}; ${gateMend}`);
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}

async function hasImage(
  architecture: Architecture,
  options: QemuOptions,
  context: ProviderContext,
): Promise<boolean> {
  return imageFor(null, architecture, options, context).then(
    () => true,
    () => false,
  );
}
