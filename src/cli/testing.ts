import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JobView } from "../web/views.ts";

/* What the tests of the command line share: the real command as a process, and a server to ask. */

const main = join(import.meta.dirname, "main.ts");
/** No command of a test takes this long, nor a server of one; what does is killed, and fails. */
const deadlineMs = 300_000;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly folder?: string;
  readonly input?: string | Uint8Array;
  /** Another copy of the command than this one. */
  readonly main?: string;
}

export class Running {
  readonly child: ChildProcess;
  stdout = "";
  stderr = "";
  readonly ended: Promise<Ended>;
  readonly #listeners = new Set<() => void>();

  constructor(args: readonly string[], options: CommandOptions = {}) {
    const { environment = {}, folder, input } = options;
    const { PATH = "", HOME = "" } = process.env;
    this.child = spawn(process.execPath, [options.main ?? main, ...args], {
      cwd: folder ?? tmpdir(),
      env: { PATH, HOME, MAYFLY_STATE: "/nonexistent", ...environment },
      stdio: "pipe",
    });
    const timer = setTimeout(() => this.child.kill("SIGKILL"), deadlineMs);
    this.child.stdout?.on("data", (chunk: Buffer) => this.#hear("stdout", chunk));
    this.child.stderr?.on("data", (chunk: Buffer) => this.#hear("stderr", chunk));
    // A command may end before it has read what it was given.
    this.child.stdin?.on("error", () => {}).end(input ?? "");
    this.ended = new Promise((resolve) => {
      this.child.once("close", (code) => {
        clearTimeout(timer);
        resolve({ code, stdout: this.stdout, stderr: this.stderr });
        for (const listener of this.#listeners) listener();
      });
    });
  }

  /** Resolves once `pattern` was printed; rejects when the command ends without it. */
  printed(stream: "stdout" | "stderr", pattern: RegExp): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const isOver = this.child.exitCode !== null || this.child.signalCode !== null;
        if (pattern.test(this[stream])) resolve();
        else if (isOver)
          reject(new Error(`ended without ${pattern}: ${this.stdout}${this.stderr}`));
        else return;
        this.#listeners.delete(look);
      };
      this.#listeners.add(look);
      look();
    });
  }

  #hear(stream: "stdout" | "stderr", chunk: Buffer): void {
    this[stream] += chunk.toString();
    for (const listener of this.#listeners) listener();
  }
}

export function mayfly(args: readonly string[], options: CommandOptions = {}): Promise<Ended> {
  return new Running(args, options).ended;
}

export interface Asked {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingMessage["headers"];
  readonly body: Buffer;
}

type Answer = object | ((response: ServerResponse, asked: Asked) => void);

/** A server whose answers a test writes: `GET /v1/jobs` -> JSON, or whatever it does. */
export class StubServer {
  readonly asked: Asked[] = [];
  readonly answers = new Map<string, Answer>();
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  static async start(): Promise<StubServer> {
    const stub = new StubServer();
    await new Promise<void>((resolve) => stub.#server.listen(0, "127.0.0.1", resolve));
    return stub;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Variables under which a command asks this server. */
  get environment(): Record<string, string> {
    return { MAYFLY_SERVER: this.url, MAYFLY_TOKEN: "test-token" };
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", this.url);
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      // The command went away; what it had sent is what is looked at.
    }
    const method = request.method ?? "";
    const asked = { method, url, headers: request.headers, body: Buffer.concat(chunks) };
    this.asked.push(asked);
    const answer = this.answers.get(`${method} ${url.pathname}`);
    if (typeof answer === "function") return void answer(response, asked);
    if (answer === undefined) return problem(response, 404, "not_found", "there is no such thing");
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
  }
}

export function problem(
  response: ServerResponse,
  status: number,
  code: string,
  detail: string,
  more: object = {},
): void {
  response.writeHead(status, { "content-type": "application/problem+json" });
  response.end(JSON.stringify({ type: "about:blank", title: "", status, code, detail, ...more }));
}

export function sampleJob(changes: Partial<JobView> = {}): JobView {
  return {
    id: "native-k3f9abcdef",
    forge: "native",
    externalId: "k3f9abcdef",
    attempt: 1,
    name: "make test",
    repository: "rocket",
    labels: [],
    trust: "trusted",
    pool: "default",
    size: { cpu: 2, memoryMb: 4096, diskGb: 10, gpu: 0, architecture: "x64" },
    state: "ended",
    outcome: "success",
    exitCode: 0,
    reason: "its machine exited with status 0",
    machine: "m1-default-9x2y8z7w",
    costMicroUsd: 0,
    url: null,
    queuedAt: 1_767_225_600_000,
    seenAt: 1_767_225_600_000,
    startedAt: 1_767_225_601_000,
    endedAt: 1_767_225_613_000,
    work: null,
    ...changes,
  };
}

/** An empty folder that is gone after the test. */
export async function scratchFolder(t: { after(fn: () => Promise<void>): void }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "mayfly-cli-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
