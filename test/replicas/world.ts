import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { Manager } from "../manager.ts";
import { startPostgres, type TestPostgres } from "../postgres.ts";
import type { JournalEntry } from "./machines.ts";
import { Proxy } from "./proxy.ts";

const program = join(import.meta.dirname, "machines.ts");

export interface ReplicaWorldOptions {
  readonly leaseSeconds: number;
  readonly pools: readonly string[];
  readonly max: number;
  /** How far each replica's clock is off, ms; one replica for each. */
  readonly skewsMs: readonly number[];
}

/** One `mayfly up` of several, with what can be done to it. */
export interface Replica {
  readonly name: string;
  readonly manager: Manager;
  /** Between it and the database. */
  readonly store: Proxy;
  /** Whether guests and clients are sent to it, as by a balancer that asks `/readyz`. */
  isServing: boolean;
  /** What is being done to it, or null. */
  trouble: string | null;
}

export interface Hold {
  readonly resource: string;
  readonly holder: string;
}

/** Several managers on one PostgreSQL server, one balancer and one provider that they all share. */
export class ReplicaWorld {
  readonly folder = mkdtempSync(join(tmpdir(), "mayfly-replicas-"));
  readonly options: ReplicaWorldOptions;
  readonly replicas: Replica[] = [];
  readonly db: pg.Pool;
  readonly #postgres: TestPostgres;
  readonly #url: URL;
  #balancer!: Proxy;
  #turn = 0;

  private constructor(options: ReplicaWorldOptions, postgres: TestPostgres, url: string) {
    this.options = options;
    this.#postgres = postgres;
    this.#url = new URL(url);
    this.db = new pg.Pool({ connectionString: url, max: 2 });
    // An idle connection of it may see the server's end before its own.
    this.db.on("error", () => {});
    mkdirSync(join(this.folder, "machines"));
    for (const file of ["journal", "runs"]) writeFileSync(join(this.folder, file), "");
  }

  static async open(options: ReplicaWorldOptions): Promise<ReplicaWorld> {
    const postgres = await startPostgres();
    const world = new ReplicaWorld(options, postgres, await postgres.newDatabase());
    world.#balancer = await Proxy.open(() => world.#next());
    try {
      for (const skewMs of options.skewsMs) world.replicas.push(await world.#newReplica(skewMs));
      await Promise.all(world.replicas.map((replica) => world.start(replica)));
    } catch (error) {
      // Nobody else can: what is left running keeps the test's file from ending.
      await world.close();
      throw error;
    }
    return world;
  }

  async start(replica: Replica): Promise<void> {
    await replica.manager.start();
    replica.isServing = true;
  }

  /** No new connections to it, and those there are reset. */
  unserve(replica: Replica): void {
    replica.isServing = false;
    this.#balancer.cut(portOf(replica));
  }

  /** Has the server close a replica's connections. */
  async terminate({ store }: Replica): Promise<void> {
    await this.db.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where client_port = any($1)",
      [store.farPorts],
    );
  }

  /** The leases that are held now, by the server's clock. */
  async holds(): Promise<Hold[]> {
    const { rows } = await this.db.query<Hold>(
      `select resource, holder from leases
        where expires_at > (extract(epoch from clock_timestamp()) * 1000)::bigint
        order by resource`,
    );
    return rows;
  }

  /** What the shared provider was asked and did. */
  journal(): JournalEntry[] {
    return readFileSync(join(this.folder, "journal"), "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as JournalEntry);
  }

  /** Whether a program of the provider, even one whose manager was killed, is still making one. */
  isMaking(): boolean {
    const entries = Map.groupBy(this.journal(), ({ pid, name }) => `${pid} ${name}`);
    return [...entries.values()].some((own) => {
      const asked = own.filter(({ what }) => what === "asked").length;
      const answered = own.filter(({ what }) => what === "made" || what === "already").length;
      return asked > answered && isAlive(own[0]!.pid);
    });
  }

  /** A line for each time that a job's command ran. */
  runs(): string[] {
    return readFileSync(join(this.folder, "runs"), "utf8")
      .split("\n")
      .filter((line) => line !== "");
  }

  machines(): string[] {
    return readdirSync(join(this.folder, "machines"));
  }

  async close(): Promise<void> {
    for (const { manager } of this.replicas) {
      if (manager.isRunning) process.kill(manager.pid, "SIGCONT");
      await manager.end("SIGKILL");
    }
    for (const name of this.machines()) {
      try {
        const pid = Number(readFileSync(join(this.folder, "machines", name, "pid"), "utf8"));
        process.kill(-pid, "SIGKILL");
      } catch {
        // Its program is over, or was never begun.
      }
    }
    await this.#balancer.close();
    for (const { store, manager } of this.replicas) {
      await store.close();
      manager.remove();
    }
    await this.db.end();
    await this.#postgres.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #newReplica(skewMs: number): Promise<Replica> {
    const name = "abc"[this.replicas.length] ?? "z";
    const store = await Proxy.open(() => Number(this.#url.port));
    const address = new URL(this.#url);
    address.port = `${store.port}`;
    // No space may be in it: NODE_OPTIONS has no quotes.
    const skew = `data:text/javascript,globalThis.own=Date.now;Date.now=()=>own()+(${skewMs})`;
    const manager = await Manager.create(this.#configuration(name), {
      environment: { MAYFLY_TEST_STORE: address.href, NODE_OPTIONS: `--import=${skew}` },
    });
    return { name, manager, store, isServing: false, trouble: null };
  }

  #configuration(replica: string): string {
    const { leaseSeconds, pools, max } = this.options;
    const command = JSON.stringify([process.execPath, program, this.folder, replica]);
    return [
      `url: http://127.0.0.1:${this.#balancer.port}`,
      `store: { postgres: "env:MAYFLY_TEST_STORE", lease: ${leaseSeconds}s }`,
      `providers: { shared: { exec: { command: ${command} } } }`,
      "pools:",
      ...pools.map(
        (pool) =>
          `  ${pool}: { provider: shared, size: 1cpu1gb, max: ${max}, idle: 3s, boot: 60s, timeout: 5m, labels: [${pool}] }`,
      ),
    ].join("\n");
  }

  #next(): number | null {
    const serving = this.replicas.filter(({ isServing }) => isServing);
    const chosen = serving[this.#turn++ % Math.max(1, serving.length)];
    return chosen === undefined ? null : portOf(chosen);
  }
}

/** False also for what is dead and not yet reaped. */
function isAlive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8") !== "";
  } catch {
    return false;
  }
}

function portOf({ manager }: Replica): number {
  return Number(new URL(manager.url).port);
}
