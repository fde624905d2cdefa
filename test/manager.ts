import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const main = join(import.meta.dirname, "../src/cli/main.ts");
const startMs = 30_000;

/** A whole `mayfly up` as a process of its own, which may be killed and started again. */
export class Manager {
  readonly folder = mkdtempSync(join(tmpdir(), "mayfly-manager-"));
  readonly state = join(this.folder, "state");
  readonly #config = join(this.folder, "mayfly.yaml");
  url = "";
  #process: ChildProcess | undefined;
  /** What it said on both streams since its last start. */
  said = "";

  private constructor() {}

  static async create(configuration: string): Promise<Manager> {
    const manager = new Manager();
    const port = await freePort();
    manager.url = `http://127.0.0.1:${port}`;
    writeFileSync(manager.#config, `listen: 127.0.0.1:${port}\n${configuration}`);
    return manager;
  }

  /** Resolves when it is ready. */
  async start(): Promise<void> {
    this.said = "";
    const words = ["up", "--config", this.#config, "--state", this.state, "--no-example"];
    const child = spawn(process.execPath, [main, ...words], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (bytes: Buffer) => (this.said += bytes.toString()));
    }
    this.#process = child;
    const until = Date.now() + startMs;
    while (!(await this.#isReady())) {
      if (child.exitCode !== null || Date.now() > until) {
        throw new Error(`the manager did not start:\n${this.said}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Sends a signal and resolves to the exit status, null when it was killed. */
  async end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null) return child?.exitCode ?? null;
    const exited = once(child, "exit") as Promise<[number | null]>;
    child.kill(signal);
    const [code] = await exited;
    return code;
  }

  async ask(path: string, body?: unknown): Promise<Response> {
    if (body === undefined) return fetch(this.url + path);
    const token = readFileSync(join(this.state, "token"), "utf8").trim();
    return fetch(this.url + path, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #isReady(): Promise<boolean> {
    try {
      return (await this.ask("/readyz")).ok;
    } catch {
      return false;
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no free port");
  return address.port;
}
