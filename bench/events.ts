import { spawn, type ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { request } from "./load.ts";

const secret = "a-secret-of-the-bench";
const eventsPath = "/v1/forges/native/events";

/** Signed events as the native forge takes them, each another job. */
export function signedEvents(count: number, prefix: string): Buffer[] {
  return Array.from({ length: count }, (_, i) => {
    const body = JSON.stringify({
      name: "test",
      repository: "rocket",
      source: { kind: "git", url: "https://git.example.org/acme/rocket.git", revision: "main" },
      command: ["make", "test"],
      labels: [],
    });
    const signature = createHmac("sha256", secret).update(body).digest("hex");
    return request(
      eventsPath,
      { "x-mayfly-signature-256": `sha256=${signature}`, "x-mayfly-delivery": `${prefix}-${i}` },
      body,
    );
  });
}

/** A server of this folder in a process of its own, on a scratch folder, and its port. */
export async function startServer(
  script: string,
  ...words: string[]
): Promise<{ port: number; server: ChildProcess; stop: () => Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), "mayfly-bench-"));
  const server = spawn(
    process.execPath,
    [join(import.meta.dirname, script), folder, secret, ...words],
    { stdio: ["ignore", "pipe", "inherit", "ipc"] },
  );
  const died = once(server, "exit").then(([code]) => {
    throw new Error(`${script} ended with status ${String(code)}`);
  });
  const told = once(server.stdout as Readable, "data") as Promise<[Buffer]>;
  const [line] = await Promise.race([told, died]);
  died.catch(() => {});
  const stop = async (): Promise<void> => {
    const ended = once(server, "exit");
    server.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  return { port: Number(line.toString()), server, stop };
}
