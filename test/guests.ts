import { spawn, type ChildProcess } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createDesks } from "../src/fleet/native-desks.ts";
import type { Submission } from "../src/fleet/api.ts";
import { systemClock } from "../src/fleet/clock.ts";
import { GuestTokens } from "../src/fleet/desk-tokens.ts";
import { FleetIntake } from "../src/fleet/intake.ts";
import { randomWord } from "../src/fleet/names.ts";
import { ContentFolder } from "../src/forges/native/content-folder.ts";
import type { Forge } from "../src/forges/forge.ts";
import { NativeForge } from "../src/forges/native/native.ts";
import { NativeSources } from "../src/forges/native/sources.ts";
import { guestProgram } from "../src/guest/program.ts";
import { labelClass } from "../src/domain/matching.ts";
import type { Pool } from "../src/domain/pool.ts";
import type { Program } from "../src/domain/program.ts";
import { guestRunners, removeGuest } from "../src/store/guest.ts";
import { takeLease } from "../src/store/leases.ts";
import { readLog, type LogFrame } from "../src/store/logs.ts";
import { findJob, findRunner, type StoredJob } from "../src/store/questions.ts";
import { recordClaims } from "../src/store/runners.ts";
import type { Provider } from "../src/providers/provider.ts";
import { Store } from "../src/store/store.ts";
import { guestRoutes } from "../src/web/guest-routes.ts";
import { sampleClaim, samplePool } from "./samples.ts";

/** A submission of a shell script without a source. */
export function scriptJob(script: string, changes: Partial<Submission> = {}): Submission {
  return {
    name: null,
    repository: "acme/rocket",
    source: { kind: "none" },
    command: ["sh", "-c", script],
    target: null,
    labels: [],
    pool: null,
    trust: "trusted",
    environment: {},
    timeoutSeconds: null,
    artifacts: [],
    ...changes,
  };
}

export interface ManagerOptions {
  readonly pool?: Partial<Pool>;
  /** Folders whose repositories may be named by path. */
  readonly paths?: readonly string[];
  /** Beside the native one. */
  readonly forges?: readonly Forge[];
  readonly providers?: readonly Provider[];
  /** Stands between the server and the routes. */
  readonly around?: (listener: RequestListener) => RequestListener;
}

/** A manager's desks on a store of their own in `folder`, served on a real socket. */
export class Manager {
  readonly folder: string;
  readonly store: Store;
  readonly pool: Pool;
  readonly forge: NativeForge;
  readonly intake: FleetIntake;
  readonly sources: NativeSources;
  readonly tokens: GuestTokens;
  readonly native: ReturnType<typeof createDesks>["native"];
  readonly guests: ReturnType<typeof createDesks>["guests"];
  readonly prune: (now: number) => Promise<void>;
  readonly #server: Server;

  static async open(folder: string, options: ManagerOptions = {}): Promise<Manager> {
    const store = await Store.open(
      { engine: "sqlite", folder: join(folder, "store") },
      systemClock.now,
    );
    const manager = new Manager(folder, store, options);
    await new Promise<void>((resolve, reject) => {
      mkdirSync(dirname(manager.socket), { recursive: true, mode: 0o755 });
      rmSync(manager.socket, { force: true });
      manager.#server.once("error", reject).listen(manager.socket, resolve);
    });
    // Root of a container need not be root here.
    chmodSync(manager.socket, 0o666);
    return manager;
  }

  private constructor(folder: string, store: Store, options: ManagerOptions) {
    this.folder = folder;
    this.store = store;
    this.pool = samplePool({ forge: "native", max: 100, jobDeadlineSeconds: 300, ...options.pool });
    this.tokens = new GuestTokens("a secret of the installation");
    this.sources = new NativeSources({
      folder,
      policy: { schemes: ["https", "ssh", "git"], paths: options.paths ?? [] },
      now: systemClock.now,
    });
    this.forge = new NativeForge({
      name: "native",
      secret: "a secret of the forge",
      ledger: {
        guests: (forge) => guestRunners(store.db, forge),
        remove: (runner) => store.write((tx) => removeGuest(tx, runner)),
      },
      guestProgram,
      now: systemClock.now,
    });
    const all: Forge[] = [this.forge, ...(options.forges ?? [])];
    const forges = new Map(all.map((forge) => [forge.name, forge]));
    this.intake = new FleetIntake(store, forges, [this.pool]);
    const desks = createDesks({
      store,
      clock: systemClock,
      chance: Math.random,
      intake: this.intake,
      pools: [this.pool],
      forge: this.forge.name,
      tokens: this.tokens,
      sources: this.sources,
      artifacts: new ContentFolder(join(folder, "artifacts"), "", systemClock.now),
      forges,
      providers: new Map((options.providers ?? []).map((provider) => [provider.name, provider])),
    });
    this.native = desks.native;
    this.guests = desks.guests;
    this.prune = desks.prune;
    const routes = guestRoutes(desks.guests);
    const around = options.around ?? ((inner: RequestListener) => inner);
    this.#server = createServer(around((request, response) => void routes(request, response)));
  }

  get socket(): string {
    return join(this.folder, "guest", "guest.sock");
  }

  get url(): string {
    return `unix:${this.socket}`;
  }

  /** Also on a TCP port, with TLS when given a key; resolves to its URL. */
  async listenTcp(
    tls: { key: Buffer; cert: Buffer } | null = null,
  ): Promise<{ url: string; close: () => void }> {
    const routes = guestRoutes(this.guests);
    const listener: RequestListener = (request, response) => void routes(request, response);
    const server = tls === null ? createServer(listener) : createTlsServer(tls, listener);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    return {
      url: tls === null ? `http://127.0.0.1:${port}` : `https://localhost:${port}`,
      close: () => {
        server.closeAllConnections();
        server.close();
      },
    };
  }

  /** A claimed runner for jobs with these labels, and its program. */
  async claimRunner(
    labels: readonly string[] = [],
    url = this.url,
    installation = "test",
  ): Promise<[string, Program]> {
    const name = `${installation}-small-${randomWord(Math.random)}`;
    await this.store.write(async (tx) => {
      const lease = await takeLease(tx, "pool/small", "test", 60_000);
      if (lease === null) throw new Error("no lease");
      const claim = sampleClaim(name, {
        forge: this.pool.forge,
        labels,
        labelClass: labelClass(labels),
      });
      await recordClaims(tx, lease, [claim], this.pool.max);
    });
    return [name, await this.#mint(name, url)];
  }

  async #mint(name: string, managerUrl: string): Promise<Program> {
    const runner = await findRunner(this.store.db, name);
    if (runner === null) throw new Error(`no runner ${name}`);
    return this.forge.mint(runner, {
      managerUrl,
      claimToken: this.tokens.claim(name),
      jobDeadlineSeconds: this.pool.jobDeadlineSeconds,
      idleSeconds: this.pool.idleSeconds,
    });
  }

  async job(id: string): Promise<StoredJob> {
    const job = await findJob(this.store.db, id);
    if (job === null) throw new Error(`no job ${id}`);
    return job;
  }

  /** The job once it has ended. */
  async ended(id: string, withinMs = 120_000): Promise<StoredJob> {
    return eventually(async () => {
      const job = await this.job(id);
      return job.state === "ended" ? job : null;
    }, withinMs);
  }

  async log(id: string): Promise<LogFrame[]> {
    const frames: LogFrame[] = [];
    for (;;) {
      const more = await readLog(this.store.db, id, frames.at(-1)?.seq ?? -1, 1000);
      if (more.length === 0) return frames;
      frames.push(...more);
    }
  }

  async text(id: string, stream: LogFrame["stream"]): Promise<string> {
    return textOf(await this.log(id), stream);
  }

  async close(): Promise<void> {
    this.guests.close();
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await this.store.close();
  }
}

export function textOf(frames: readonly LogFrame[], stream: LogFrame["stream"]): string {
  return bytesOf(frames, stream).toString();
}

export function bytesOf(frames: readonly LogFrame[], stream: LogFrame["stream"]): Buffer {
  return Buffer.concat(frames.filter((f) => f.stream === stream).map(({ bytes }) => bytes));
}

export interface GuestProcess {
  readonly child: ChildProcess;
  /** Where its job works. */
  readonly work: string;
  /** What it said on its console. */
  readonly console: () => string;
  /** Its exit status, or the signal that ended it. */
  readonly over: Promise<number | string>;
}

/** Runs a program as a provider of plain processes would. */
export function startGuest(
  program: Program,
  folder: string,
  environment: Record<string, string> = {},
): GuestProcess {
  const place = mkdtempSync(join(folder, "machine-"));
  for (const { path, mode, content } of program.files) {
    mkdirSync(dirname(join(place, "program", path)), { recursive: true });
    writeFileSync(join(place, "program", path), content, { mode });
  }
  const placed = program.command.map((word) =>
    word.replaceAll("{program}", join(place, "program")),
  );
  const home = join(place, "home");
  mkdirSync(home);
  const [command = "", ...words] = placed;
  const child = spawn(command, words, {
    cwd: home,
    env: { PATH: process.env["PATH"], HOME: home, ...program.environment, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let said = "";
  const hear = (chunk: Buffer): void => {
    said += chunk.toString();
  };
  child.stdout.on("data", hear);
  child.stderr.on("data", hear);
  const over = new Promise<number | string>((resolve) => {
    child.once("close", (code, signal) => resolve(code ?? signal ?? "?"));
  });
  return { child, work: join(home, "job"), console: () => said, over };
}

/** Asks until there is an answer; fails after `withinMs`. */
export async function eventually<T>(
  ask: () => Promise<T | null> | T | null,
  withinMs = 120_000,
): Promise<T> {
  const until = Date.now() + withinMs;
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    if (Date.now() > until) throw new Error(`nothing after ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export function scratchFolder(): string {
  return mkdtempSync(join(tmpdir(), "mayfly-guest-"));
}
