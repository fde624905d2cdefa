import { createHash, randomBytes } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { signalProcess } from "../processes.ts";
import { qemuBinary, type Guest } from "./arguments.ts";
import { frameTypes } from "./frames.ts";
import { makeScratch, scratchName } from "./machine-folder.ts";
import { Qemu } from "./run.ts";

/** A guest that has booted and was stopped before it was told what to run. */
export interface Template {
  readonly memory: string;
  readonly state: string;
}

/** Each is as large as its guests' memory at the most. */
const templatesMax = 4;
const bootMs = 120_000;
const saveMs = 60_000;

/** The templates of one provider, in a folder of their own. Nothing secret is in one. */
export class Templates {
  readonly #folder: string;
  readonly #stop = new AbortController();
  readonly #making = new Map<string, Promise<void>>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** The template for guests like this one, with such a disk; null when there is none yet. */
  async find(guest: Guest, scratchBytes: number | null): Promise<Template | null> {
    const folder = join(this.#folder, await keyOf(guest, scratchBytes));
    const template = { memory: join(folder, "memory"), state: join(folder, "state") };
    if ((await stat(template.state).catch(() => null)) === null) return null;
    const now = new Date(Math.ceil(performance.timeOrigin + performance.now()));
    await utimes(folder, now, now).catch(() => {});
    return template;
  }

  /**
   * Boots a guest like this one, with a scratch disk of `scratchBytes`, to where it waits for its
   * program, and keeps that. Twice at once makes one. Throws as `Qemu` does.
   */
  async make(guest: Guest, scratchBytes: number | null): Promise<void> {
    const key = await keyOf(guest, scratchBytes);
    const making =
      this.#making.get(key) ??
      this.#make(guest, key, scratchBytes).finally(() => this.#making.delete(key));
    this.#making.set(key, making);
    await making;
  }

  /** Forgets the template for guests like this one: it did not do. */
  async drop(guest: Guest, scratchBytes: number | null): Promise<void> {
    await rm(join(this.#folder, await keyOf(guest, scratchBytes)), {
      recursive: true,
      force: true,
    });
  }

  /** Removes drafts of a manager that was killed and the templates used longest ago. */
  async tidy(): Promise<void> {
    const entries = await readdir(this.#folder).catch(() => []);
    const known: { path: string; usedAt: number }[] = [];
    for (const name of entries) {
      const path = join(this.#folder, name);
      if (name.startsWith(".")) {
        // Another process of ours may make one just now: `mayfly run` beside a server.
        const maker = Number(name.split(".")[2]);
        if (!signalProcess(maker, 0)) await rm(path, { recursive: true, force: true });
        continue;
      }
      const found = await stat(path).catch(() => null);
      if (found !== null) known.push({ path, usedAt: found.mtimeMs });
    }
    known.sort((a, b) => b.usedAt - a.usedAt);
    for (const { path } of known.slice(templatesMax)) await rm(path, { recursive: true });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await Promise.allSettled(this.#making.values());
  }

  async #make(guest: Guest, key: string, scratchBytes: number | null): Promise<void> {
    const suffix = `${process.pid}.${randomBytes(6).toString("hex")}`;
    const draft = join(this.#folder, `.${key}.${suffix}`);
    await mkdir(draft, { recursive: true, mode: 0o700 });
    try {
      if (scratchBytes !== null) await makeScratch(draft, scratchBytes);
      await save(guest, draft, this.#stop.signal);
      await rm(join(draft, scratchName), { force: true });
      await rename(draft, join(this.#folder, key));
      await this.tidy();
    } finally {
      await rm(draft, { recursive: true, force: true });
    }
  }
}

async function save(guest: Guest, draft: string, stop: AbortSignal): Promise<void> {
  const memory = { path: join(draft, "memory"), shared: true };
  let qemu: Qemu | null = null;
  try {
    // What every program starts with is read into the memory that the copies share.
    const append = `${guest.append} mayfly.warm`;
    // Its copies have the same card; what is behind that is not part of its state.
    const network = guest.network === "none" ? "none" : "closed";
    qemu = await Qemu.start({ ...guest, name: "template", append, memory, network }, draft);
    await qemu.heard(frameTypes.ready, AbortSignal.any([stop, AbortSignal.timeout(bootMs)]));
    const { qmp } = qemu;
    await qmp.command("stop");
    await qmp.command("migrate-set-capabilities", { capabilities: ignoreShared });
    // The state is small and nothing listens to how fast it goes.
    await qmp.command("migrate-set-parameters", { "max-bandwidth": 10_000_000_000 });
    await qmp.command("migrate", { uri: "exec:umask 077; cat >state.new" });
    const limit = AbortSignal.any([stop, AbortSignal.timeout(saveMs)]);
    const over = await qmp.event(
      ({ name, data }) => name === "MIGRATION" && /completed|failed/.test(String(data["status"])),
      limit,
    );
    if (over.data["status"] !== "completed") {
      throw new ProviderError("unreachable", "the state of a booted machine could not be saved");
    }
  } finally {
    await qemu?.end();
  }
  await rename(join(draft, "state.new"), join(draft, "state"));
}

const ignoreShared = ["x-ignore-shared", "events"].map((capability) => ({
  capability,
  state: true,
}));

/**
 * What tells guests apart that may not share a template: all that they are, and what runs them. The
 * host's boot is part of it, since a kernel or a processor that changed may not take the state.
 */
async function keyOf(guest: Guest, scratchBytes: number | null): Promise<string> {
  const { name: _name, memory: _memory, incoming: _incoming, ...shape } = guest;
  const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8").catch(() => "");
  const files = [guest.kernel, guest.initrd, ...guest.disks.map(({ path }) => path)];
  const states = await Promise.all(
    [...files, await which(qemuBinary(guest.architecture))].map(async (path) => {
      if (path === null || !path.startsWith("/")) return "";
      const { ino, size, mtimeMs } = await stat(path);
      return `${ino} ${size} ${mtimeMs}`;
    }),
  );
  const text = JSON.stringify([shape, scratchBytes, boot, states]);
  return createHash("sha256").update(text).digest("hex").slice(0, 32);
}

async function which(tool: string): Promise<string | null> {
  for (const folder of (process.env["PATH"] ?? "/usr/bin:/bin").split(":")) {
    const path = join(folder, tool);
    if ((await stat(path).catch(() => null)) !== null) return path;
  }
  return null;
}
