import { createHash, randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, realpath, rename, rm, stat, statfs, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Transform, type Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { MayflyError } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";

/** What the host keeps free, whatever a machine sends. */
const reserveBytes = 256 * 1024 * 1024;
const filesMax = 10_000;

/** Takes in what a machine made, below a folder that is made when the first file comes. */
export class ArtifactFolder {
  readonly path: string;
  readonly kept: string[] = [];
  bytes = 0;
  readonly #isOurs: boolean;

  /** `isOurs`: nobody chose the folder, so it is kept out of the repository that it lies in. */
  constructor(path: string, isOurs = false) {
    this.path = path;
    this.#isOurs = isOurs;
  }

  /** Throws `invalid` where there is something else in its place. */
  async check(): Promise<void> {
    const found = await stat(this.path).catch(() => null);
    if (found === null || found.isDirectory()) return;
    throw new MayflyError("invalid", `${this.path} is no folder`, {
      where: "--artifacts",
      hint: "Move it away, or name another folder.",
    });
  }

  /**
   * Writes a file to its place below the folder: it is there whole or not at all. Throws
   * `too_large` where the disk has no room for it, and `forbidden` where a link in the folder leads
   * out of it.
   */
  async keep(path: string, body: Readable): Promise<{ sha256: string; size: number }> {
    if (this.kept.length >= filesMax) {
      throw new MayflyError("too_large", `a run brings out at most ${filesMax} files`);
    }
    try {
      return await this.#keep(path, body);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOSPC" || code === "EDQUOT") throw noRoom(path);
      if (code === "ENOTDIR" || code === "EISDIR" || code === "EEXIST") {
        throw new MayflyError(
          "conflict",
          `${quote(path)} is a file in one place, a folder in another`,
        );
      }
      throw error;
    }
  }

  async #keep(path: string, body: Readable): Promise<{ sha256: string; size: number }> {
    const target = join(this.path, path);
    await mkdir(dirname(target), { recursive: true });
    const [root, parent] = await Promise.all([realpath(this.path), realpath(dirname(target))]);
    if (parent !== root && !parent.startsWith(`${root}/`)) {
      throw new MayflyError("forbidden", `${quote(path)} would be written elsewhere, by a link`);
    }
    if (this.#isOurs && this.kept.length === 0) await ignoreInGit(root);
    const { bavail, bsize } = await statfs(root);
    const room = Math.max(0, bavail * bsize - reserveBytes);
    const partial = join(root, `.${randomBytes(6).toString("hex")}.part`);
    const hash = createHash("sha256");
    let size = 0;
    const counting = new Transform({
      transform: (chunk: Buffer, _, done) => {
        size += chunk.length;
        hash.update(chunk);
        done(size > room ? noRoom(path) : null, chunk);
      },
    });
    try {
      const pieces = body.iterator({ destroyOnReturn: false });
      await pipeline(pieces, counting, createWriteStream(partial, { flags: "wx", mode: 0o644 }));
      await rename(partial, target);
    } finally {
      await rm(partial, { force: true });
    }
    this.kept.push(path);
    this.bytes += size;
    return { sha256: hash.digest("hex"), size };
  }
}

async function ignoreInGit(folder: string): Promise<void> {
  await writeFile(join(folder, ".gitignore"), "*\n", { flag: "wx" }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    },
  );
}

function noRoom(path: string): MayflyError {
  return new MayflyError("too_large", `the disk has no room for ${quote(path)}`);
}
