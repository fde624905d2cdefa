import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./ports.ts";

const main = join(import.meta.dirname, "../src/cli/main.ts");
const startMs = 120_000;

export interface ManagerSettings {
  /** Before the manager's own command: a program that changes what the manager sees. */
  readonly around?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** A whole `mayfly up` as a process of its own, which may be killed and started again. */
export class Manager {
  readonly folder = mkdtempSync(join(tmpdir(), "mayfly-manager-"));
  readonly state = join(this.folder, "state");
  readonly settings: ManagerSettings;
  readonly #config = join(this.folder, "mayfly.yaml");
  url = "";
  #process: ChildProcess | undefined;
  /** What it said on both streams since its last start. */
  said = "";
  readonly #listeners = new Set<() => void>();

  private constructor(settings: ManagerSettings) {
    this.settings = settings;
  }

  static async create(configuration: string, settings: ManagerSettings = {}): Promise<Manager> {
    const manager = new Manager(settings);
    manager.url = `http://127.0.0.1:${await freePort()}`;
    manager.configure(configuration);
    return manager;
  }

  /** What it reads at its next start. */
  configure(configuration: string): void {
    writeFileSync(this.#config, `listen: ${this.url.slice("http://".length)}\n${configuration}`);
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  get isRunning(): boolean {
    const child = this.#process;
    return child !== undefined && child.exitCode === null && child.signalCode === null;
  }

  /** Resolves when it is ready. */
  async start(): Promise<void> {
    this.launch();
    const until = Date.now() + startMs;
    while (!(await this.isReady())) {
      if (!this.isRunning || Date.now() > until) {
        throw new Error(`the manager did not start:\n${this.said}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Starts the process and waits for nothing. */
  launch(): void {
    this.said = "";
    const { around = [], environment } = this.settings;
    const words = ["up", "--config", this.#config, "--state", this.state, "--no-example"];
    const [program = "", ...rest] = [...around, process.execPath, main, ...words];
    const child = spawn(program, rest, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...environment },
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (bytes: Buffer) => {
        if (child !== this.#process) return;
        this.said += bytes.toString();
        for (const listener of this.#listeners) listener();
      });
    }
    child.on("exit", () => {
      for (const listener of this.#listeners) listener();
    });
    this.#process = child;
  }

  /** Resolves once it has said so many lines since its start, or has ended. */
  async saidLines(count: number): Promise<void> {
    await this.#heard(() => this.said.split("\n").length > count);
  }

  /** Resolves once what it said matches; rejects when it ends without, or says nothing for long. */
  async saidThat(pattern: RegExp): Promise<void> {
    await this.#heard(() => pattern.test(this.said));
    if (!pattern.test(this.said)) throw new Error(`never said ${pattern}:\n${this.said}`);
  }

  #heard(enough: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const look = (): void => {
        if (this.isRunning && !enough()) return;
        leave();
      };
      const leave = (): void => {
        clearTimeout(timer);
        this.#listeners.delete(look);
        resolve();
      };
      const timer = setTimeout(leave, startMs);
      this.#listeners.add(look);
      look();
    });
  }

  /** Sends a signal and resolves to the exit status, null when it was killed. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#process;
    if (child === undefined || !this.isRunning) return child?.exitCode ?? null;
    const exited = once(child, "exit") as Promise<[number | null]>;
    child.kill(signal);
    const [code] = await exited;
    return code;
  }

  async ask(path: string, body?: unknown): Promise<Response> {
    // A connection of its own: one that was kept may be closed just as it is used again.
    const connection = "close";
    if (body === undefined) return fetch(this.url + path, { headers: { connection } });
    const token = readFileSync(join(this.state, "token"), "utf8").trim();
    return fetch(this.url + path, {
      method: "POST",
      headers: {
        authorization: `Bearer ${token}`,
        connection,
        "content-type": "application/json",
      },
      body: JSON.stringify(body),
    });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  async isReady(): Promise<boolean> {
    try {
      return (await this.ask("/readyz")).ok;
    } catch {
      return false;
    }
  }
}
