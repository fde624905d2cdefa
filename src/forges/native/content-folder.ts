import { createHash, randomUUID } from "node:crypto";
import { createReadStream, mkdirSync, statSync, unlinkSync } from "node:fs";
import { mkdir, open, opendir, rename, rm, stat, statfs, utimes } from "node:fs/promises";
import { once } from "node:events";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import { MayflyError } from "../../domain/errors.ts";

/** Looks at bytes as they come; throws to refuse them all. */
export interface Checker {
  write(chunk: Uint8Array): void;
  end(): void | Promise<void>;
}

export interface Kept {
  readonly sha256: string;
  readonly bytes: number;
}

/**
 * Files under the digest of their content: `<folder>/<sha256><suffix>`. A file is there whole or not
 * at all, whatever happens while it is written.
 */
export class ContentFolder {
  readonly #folder: string;
  readonly #suffix: string;
  readonly #now: () => number;

  constructor(folder: string, suffix: string, now: () => number) {
    this.#folder = folder;
    this.#suffix = suffix;
    this.#now = now;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /**
   * Reads `body` to its end and keeps it. Throws what `check` throws, `too_large`, or `unavailable`
   * (the disk is full, the sender went away); then nothing is left of it. `body` is not destroyed:
   * its owner may have something to say on the same connection.
   */
  async keep(body: Readable, bytesMax: number, check?: Checker): Promise<Kept> {
    const temporary = join(this.#folder, `.${randomUUID()}.new`);
    // It may break before anybody reads it; the reading will tell.
    body.on("error", () => {});
    try {
      const room = await roomIn(this.#folder);
      const kept = await writeAll(body, temporary, { bytesMax, room }, check);
      await rename(temporary, this.path(kept.sha256));
      await syncFolder(this.#folder);
      return kept;
    } catch (error) {
      await rm(temporary, { force: true });
      throw asOurs(error, this.#folder);
    }
  }

  path(sha256: string): string {
    if (!/^[0-9a-f]{64}$/.test(sha256)) {
      throw new MayflyError("invalid", "it is no SHA-256 digest in hexadecimal");
    }
    return join(this.#folder, `${sha256}${this.#suffix}`);
  }

  /** Throws `not_found`. */
  async open(sha256: string): Promise<Readable> {
    const stream = createReadStream(this.path(sha256));
    try {
      await once(stream, "open");
      return stream;
    } catch {
      throw new MayflyError("not_found", `${sha256} is not kept (any more)`);
    }
  }

  /** Whether it is kept; if so, it counts as kept just now. */
  async has(sha256: string): Promise<boolean> {
    const at = new Date(this.#now());
    return utimes(this.path(sha256), at, at).then(
      () => true,
      () => false,
    );
  }

  /** Contents not kept again since `before` (ms). Leftovers of writes that were cut are removed. */
  async *olderThan(before: number): AsyncIterable<string> {
    for await (const { name } of await opendir(this.#folder)) {
      const path = join(this.#folder, name);
      const changed = (await stat(path).catch(() => null))?.mtimeMs ?? Infinity;
      if (changed >= before) continue;
      const sha256 = name.slice(0, 64);
      if (name === `${sha256}${this.#suffix}` && /^[0-9a-f]{64}$/.test(sha256)) yield sha256;
      else if (name.endsWith(".new")) await rm(path, { force: true });
    }
  }

  /** Removes a content unless it was kept again since `before` (ms). */
  async remove(sha256: string, before: number): Promise<void> {
    const path = this.path(sha256);
    await mkdir(this.#folder, { recursive: true });
    try {
      // Together, so that nobody keeps it in between.
      if (statSync(path).mtimeMs < before) unlinkSync(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
  }
}

async function writeAll(
  body: Readable,
  path: string,
  { bytesMax, room }: { readonly bytesMax: number; readonly room: number },
  check: Checker | undefined,
): Promise<Kept> {
  const hash = createHash("sha256");
  let bytes = 0;
  const file = await open(path, "wx", 0o600);
  try {
    for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > bytesMax) {
        throw new MayflyError("too_large", `it is larger than ${bytesMax} bytes`);
      }
      if (bytes > room) throw diskFull(dirname(path));
      check?.write(chunk);
      hash.update(chunk);
      await file.appendFile(chunk);
    }
    await check?.end();
    await file.sync();
  } finally {
    await file.close();
  }
  return { sha256: hash.digest("hex"), bytes };
}

/** The store lies on the same disk and must be able to go on: so much is left to it. */
const reserveShare = 0.05;
const reserveBytesMax = 256 * 2 ** 20;

/** Bytes that may be written before the disk comes down to its reserve. */
async function roomIn(folder: string): Promise<number> {
  const { bavail, blocks, bsize } = await statfs(folder);
  return bavail * bsize - Math.min(reserveBytesMax, blocks * bsize * reserveShare);
}

function diskFull(folder: string): MayflyError {
  return new MayflyError("unavailable", "the disk is full; nothing was kept", {
    where: folder,
    hint: "Make room there, then send it again.",
  });
}

/** A renamed file is only there for good once its folder is written too. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function asOurs(error: unknown, folder: string): unknown {
  const code = (error as NodeJS.ErrnoException).code;
  if (error instanceof MayflyError) return error;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return diskFull(folder);
  }
  if (code === "ABORT_ERR" || code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE") {
    return new MayflyError("unavailable", "it broke off on its way; nothing was kept");
  }
  return error;
}
