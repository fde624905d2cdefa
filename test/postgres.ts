import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { freePort } from "./ports.ts";

/** Where Debian and Ubuntu put the server's programs, newest version first. */
function serverPrograms(): string | null {
  const root = "/usr/lib/postgresql";
  if (!existsSync(root)) return null;
  const versions = readdirSync(root).sort((a, b) => Number(b) - Number(a));
  const found = versions
    .map((v) => join(root, v, "bin"))
    .find((d) => existsSync(join(d, "initdb")));
  return found ?? null;
}

/** Why PostgreSQL tests cannot run here, or null. */
export const postgresMissing: string | null =
  serverPrograms() === null ? "no PostgreSQL server (Debian's package postgresql)" : null;

export interface TestPostgres {
  /** The address of a new, empty database on this server. */
  newDatabase(): Promise<string>;
  stop(): Promise<void>;
}

/** A server of our own on a scratch folder and a free loopback port. Never run as root. */
export async function startPostgres(): Promise<TestPostgres> {
  const bin = serverPrograms();
  if (bin === null) throw new Error("no PostgreSQL server installed");
  const folder = mkdtempSync(join(tmpdir(), "mayfly-postgres-"));
  const identity = serverIdentity();
  if (identity !== null) chownSync(folder, identity.uid, identity.gid);
  const data = join(folder, "data");
  const as = identity ?? {};
  execFileSync(join(bin, "initdb"), ["-D", data, "-A", "trust", "-U", "mayfly", "-E", "UTF8"], {
    ...as,
    cwd: folder,
    stdio: "ignore",
    env: { PATH: process.env["PATH"], LC_ALL: "C.UTF-8" },
  });
  const port = await freePort();
  const settings = ["-c", "listen_addresses=127.0.0.1", "-c", `unix_socket_directories=${folder}`];
  const server = spawn(join(bin, "postgres"), ["-D", data, "-p", String(port), ...settings], {
    ...as,
    cwd: folder,
    stdio: "ignore",
    env: { PATH: process.env["PATH"], LC_ALL: "C.UTF-8" },
  });
  const url = (database: string): string => `postgres://mayfly@127.0.0.1:${port}/${database}`;
  const stop = async (): Promise<void> => {
    if (server.exitCode === null && server.signalCode === null) {
      const ended = new Promise((resolve) => server.once("exit", resolve));
      server.kill("SIGINT");
      await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    await answering(url("postgres"), server);
  } catch (error) {
    await stop();
    throw error;
  }
  let databases = 0;
  return {
    newDatabase: async () => {
      const name = `test${++databases}`;
      await query(url("postgres"), `create database ${name}`);
      return url(name);
    },
    stop,
  };
}

/** PostgreSQL refuses to run as root; Debian's package makes a user for it. */
function serverIdentity(): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return null;
  const id = (flag: string): number =>
    Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  return { uid: id("-u"), gid: id("-g") };
}

async function answering(url: string, server: ChildProcess): Promise<void> {
  const until = Date.now() + 120_000;
  while (server.exitCode === null) {
    try {
      await query(url, "select 1");
      return;
    } catch (error) {
      if (Date.now() > until) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  throw new Error(`PostgreSQL ended with status ${server.exitCode} before it answered`);
}

async function query(url: string, text: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  // What fails is told by what is asked; a connection that breaks beside it concerns nobody.
  client.on("error", () => {});
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}
