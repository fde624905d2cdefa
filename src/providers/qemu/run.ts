import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Duplex, Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { ProviderError } from "../../domain/errors.ts";
import { lastWords } from "../child.ts";
import { bareEnvironment } from "../local.ts";
import { qemuCommand, type Guest } from "./arguments.ts";
import { FrameReader, type Frame } from "./frames.ts";
import { Qmp } from "./qmp.ts";

export const qemuMend =
  "install it: apt-get install qemu-system-x86 (arm64 guests: qemu-system-arm) and util-linux";
const wordsBytesMax = 65_536;
const framesMax = 64;

/** A QEMU of our own that ends with us: for a trial boot and for a template, not for machines. */
export class Qemu {
  readonly qmp: Qmp;
  readonly channel: Duplex;
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #frames: Frame[] = [];
  #errors = "";
  #console = "";

  /** Starts it in `folder`; throws `invalid` when there is no QEMU or it refuses its arguments. */
  static async start(guest: Guest, folder: string): Promise<Qemu> {
    const [tool, ...args] = qemuCommand(guest);
    const child = spawn(tool, args, {
      cwd: folder,
      env: bareEnvironment(),
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe", "pipe"],
    });
    const qemu = new Qemu(child);
    try {
      await qemu.qmp.command("qmp_capabilities");
      return qemu;
    } catch {
      await qemu.end();
      const words = lastWords(qemu.#errors);
      const missing = /failed to execute|ENOENT/.test(words) ? `; ${qemuMend}` : "";
      throw new ProviderError("invalid", `QEMU does not run: ${words}${missing}`);
    }
  }

  private constructor(child: ChildProcess) {
    this.#child = child;
    const keep = (stream: Readable, take: (chunk: string) => void): void => {
      stream.setEncoding("latin1").on("data", take).on("error", ignore);
    };
    keep(child.stderr!, (chunk) => (this.#errors = (this.#errors + chunk).slice(-wordsBytesMax)));
    keep((child.stdio as unknown as Readable[])[5]!, (chunk) => {
      this.#console = (this.#console + chunk).slice(-wordsBytesMax);
    });
    this.channel = child.stdio[3] as Duplex;
    const reader = new FrameReader();
    this.channel.on("error", ignore).on("data", (chunk: Buffer) => {
      try {
        // It says two words before it ends; one that says more is not listened to.
        this.#frames.push(...reader.take(chunk).slice(0, framesMax - this.#frames.length));
      } catch {
        this.channel.destroy();
      }
    });
    this.qmp = new Qmp(child.stdio[4] as Duplex);
    this.#exited = once(child, "close").catch((error: Error) => (this.#errors += error.message));
  }

  /** What the guest's frame of `type` holds, once it comes. Throws `unreachable` if it will not. */
  async heard(type: number, signal: AbortSignal): Promise<Buffer> {
    for (;;) {
      const found = this.#frames.find((frame) => frame.type === type);
      if (found !== undefined) return found.payload;
      if (signal.aborted || this.channel.destroyed) {
        throw new ProviderError("unreachable", "the machine did not do what it was booted for");
      }
      await sleep(10, undefined, { signal }).catch(ignore);
    }
  }

  /** The last that the guest's kernel wrote. */
  get console(): string {
    return this.#console;
  }

  /** Ends it, whatever it does; returns once it is over. */
  async end(): Promise<void> {
    if (this.#child.exitCode === null) this.#child.kill("SIGKILL");
    this.channel.destroy();
    await this.#exited;
  }
}

function ignore(): void {}
