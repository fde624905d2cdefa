import { lookup } from "node:dns/promises";
import { chmod, lstat, mkdir, unlink } from "node:fs/promises";
import type { Server } from "node:http";
import { connect, isIP } from "node:net";
import { dirname } from "node:path";
import { MayflyError } from "../domain/errors.ts";

export interface TcpAddress {
  readonly host: string;
  readonly port: number;
  readonly isLoopback: boolean;
}

/** Linux keeps a socket's path in 108 bytes, the BSDs and macOS in 104, each with a final zero. */
const socketPathMax = 103;

/** Reads `127.0.0.1:8420`, `[::1]:8420`, `localhost:8420`; port 0 takes any. Throws `invalid`. */
export async function parseListen(listen: string): Promise<TcpAddress> {
  const [, bracketed, plain, digits] =
    /^(?:\[([^\]]+)\]|([^:[\]]*)):([0-9]{1,5})$/.exec(listen) ?? [];
  const name = bracketed ?? plain;
  const port = Number(digits);
  if (name === undefined || name === "" || port > 65_535) {
    throw new MayflyError("invalid", `${JSON.stringify(listen)} is no address to listen on`, {
      where: "listen",
      hint: "Write HOST:PORT, such as 127.0.0.1:8420, [::1]:8420 or 0.0.0.0:8420 for every address.",
    });
  }
  const host = isIP(name) > 0 ? name : await resolve(name);
  return { host, port, isLoopback: isLoopback(host) };
}

async function resolve(name: string): Promise<string> {
  try {
    return (await lookup(name)).address;
  } catch {
    throw new MayflyError("invalid", `the name ${JSON.stringify(name)} has no address`, {
      where: "listen",
      hint: "Write an address of this machine, such as 127.0.0.1.",
    });
  }
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1" || /^::ffff:127\./i.test(address);
}

/** Starts listening; resolves to the port. Throws `conflict`, `forbidden` or `invalid`. */
export async function listenTcp(server: Server, { host, port }: TcpAddress): Promise<number> {
  const where = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  try {
    await listening(server, () => server.listen({ host, port }));
  } catch (error) {
    throw explain(error, where);
  }
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : port;
}

function explain(error: unknown, where: string): unknown {
  switch ((error as NodeJS.ErrnoException).code) {
    case "EADDRINUSE":
      return new MayflyError("conflict", `another program listens on ${where}`, {
        where: "listen",
        hint: "Stop it, or choose another port with --listen.",
      });
    case "EACCES":
      return new MayflyError("forbidden", `this user may not listen on ${where}`, {
        where: "listen",
        hint: "Choose a port above 1023.",
      });
    case "EADDRNOTAVAIL":
      return new MayflyError("invalid", `${where} is no address of this machine`, {
        where: "listen",
        hint: "Write an address of this machine, such as 127.0.0.1, or 0.0.0.0 for every one.",
      });
    default:
      return error;
  }
}

/**
 * Listens on a socket that anybody may connect to who can reach its folder: a machine in a user
 * namespace is another user to the kernel. The folder is searchable but not listable (0711), and
 * lies in a state folder that is the owner's alone; a machine sees it because it is mounted there.
 * What is asked over the socket is authenticated by its own claim or session.
 *
 * A socket that nobody serves any more is replaced. Throws `conflict` when somebody does.
 */
export async function listenSocket(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > socketPathMax) {
    throw new MayflyError("invalid", `the path of the guests' socket is too long: ${path}`, {
      where: "guestSocket",
      hint: `A socket's path has at most ${socketPathMax} bytes: give a shorter --state.`,
    });
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o711 });
  await chmod(dirname(path), 0o711);
  await removeStale(path);
  await listening(server, () => server.listen(path));
  await chmod(path, 0o666);
}

async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return;
  if (!found.isSocket()) {
    throw new MayflyError("conflict", `${path} exists and is no socket`, {
      where: "guestSocket",
      hint: "Move it away.",
    });
  }
  if (await answers(path)) {
    throw new MayflyError("conflict", `another process serves ${path}`, {
      where: "guestSocket",
      hint: "Stop the other Mayfly first.",
    });
  }
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // One that is too busy to answer, or another user's, is somebody's.
    socket.once("error", ({ code }: NodeJS.ErrnoException) => {
      resolve(code !== "ECONNREFUSED" && code !== "ENOENT");
    });
  });
}

function listening(server: Server, start: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.off("error", reject);
      resolve();
    });
    start();
  });
}
