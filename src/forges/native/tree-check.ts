import { posix } from "node:path";
import { Parser, type ReadEntry } from "tar";
import { MayflyError } from "../../domain/errors.ts";
import { quote } from "../../domain/words.ts";

export interface TreeLimits {
  readonly entriesMax: number;
  readonly bytesMax: number;
  /**
   * Whether a symbolic link may point out of the tree. A clone makes such links too, and nothing
   * is ever written through them; an archive from anywhere has no need of them.
   */
  readonly outerLinks: "refuse" | "allow";
}

const pathBytesMax = 4000;
const files = new Set(["File", "OldFile", "ContiguousFile"]);

/**
 * Checks a tar archive while it passes: every entry lies below the folder it will be unpacked in, no
 * entry is written through a link, hard links name files of the same archive, there are no devices,
 * and there is not too much of it. Throws `invalid` or `too_large`, naming the entry.
 */
export class TreeCheck {
  readonly #limits: TreeLimits;
  readonly #parser: Parser;
  readonly #links = new Set<string>();
  readonly #folders = new Set<string>();
  readonly #files = new Set<string>();
  #entries = 0;
  #bytes = 0;
  #isFirst = true;
  #fault: Error | null = null;

  constructor(limits: TreeLimits) {
    this.#limits = limits;
    this.#parser = new Parser({
      strict: true,
      onReadEntry: (entry) => {
        this.#take(entry);
        entry.resume();
      },
    });
    this.#parser.on("ignoredEntry", (entry: ReadEntry) => this.#take(entry));
    this.#parser.on("error", (error: Error) => {
      this.#fault ??= new MayflyError("invalid", `it is no sound tar archive: ${error.message}`);
    });
  }

  write(chunk: Uint8Array): void {
    if (this.#isFirst) refuseCompressed(chunk);
    this.#isFirst = false;
    this.#parser.write(Buffer.from(chunk));
    this.#throwFault();
  }

  end(): void {
    this.#parser.end();
    this.#throwFault();
    if (this.#entries === 0) throw new MayflyError("invalid", "the archive is empty");
  }

  #throwFault(): void {
    if (this.#fault !== null) throw this.#fault;
  }

  /** The parser would swallow what is thrown in its events. */
  #take(entry: ReadEntry): void {
    try {
      this.#check(entry);
    } catch (error) {
      this.#fault ??= error as Error;
    }
  }

  #check(entry: ReadEntry): void {
    const { entriesMax, bytesMax } = this.#limits;
    this.#entries++;
    if (this.#entries > entriesMax) {
      throw new MayflyError("too_large", `the archive has more than ${entriesMax} entries`);
    }
    this.#bytes += entry.size;
    if (this.#bytes > bytesMax) {
      throw new MayflyError("too_large", `${quote(entry.path)} takes it beyond ${bytesMax} bytes`);
    }
    const path = innerPath(entry.path);
    if (path === null) throw refused(entry, "it does not lie below the archive's root");
    for (const folder of foldersOf(path)) {
      if (this.#links.has(folder)) throw refused(entry, `${quote(folder)} is a link`);
      if (this.#files.has(folder)) throw refused(entry, `${quote(folder)} is a file`);
      this.#folders.add(folder);
    }
    if (entry.type === "Directory" || entry.type === "GNUDumpDir") {
      if (this.#links.has(path)) throw refused(entry, "it is a link already");
      if (path !== ".") this.#folders.add(path);
    } else if (files.has(entry.type)) this.#takeFile(entry, path);
    else if (entry.type === "SymbolicLink") this.#takeLink(entry, path);
    else if (entry.type === "Link") this.#takeHardLink(entry, path);
    else throw refused(entry, `it is a ${entry.type}, which no repository has`);
  }

  #takeFile(entry: ReadEntry, path: string): void {
    if (path === "." || this.#links.has(path) || this.#folders.has(path)) {
      throw refused(entry, "something else has this name already");
    }
    this.#files.add(path);
  }

  #takeLink(entry: ReadEntry, path: string): void {
    if (path === "." || this.#folders.has(path) || this.#files.has(path) || this.#links.has(path)) {
      throw refused(entry, "something else has this name already");
    }
    const target = entry.linkpath ?? "";
    const leads = posix.join(posix.dirname(path), target);
    const isOuter = target.startsWith("/") || leads === ".." || leads.startsWith("../");
    if (isOuter && this.#limits.outerLinks === "refuse") {
      throw refused(entry, `it links to ${quote(target)}, outside of the archive`);
    }
    this.#links.add(path);
  }

  #takeHardLink(entry: ReadEntry, path: string): void {
    const target = innerPath(entry.linkpath ?? "");
    if (target === null || !this.#files.has(target)) {
      throw refused(entry, `it links to ${quote(entry.linkpath ?? "")}, no file of the archive`);
    }
    this.#takeFile(entry, path);
  }
}

/** The path without `./` and a final slash; null when it leads out or is none. */
function innerPath(path: string): string | null {
  if (path.startsWith("/") || path.includes("\0") || Buffer.byteLength(path) > pathBytesMax) {
    return null;
  }
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) return null;
  return parts.length === 0 ? "." : parts.join("/");
}

function* foldersOf(path: string): Iterable<string> {
  for (let at = path.indexOf("/"); at >= 0; at = path.indexOf("/", at + 1)) yield path.slice(0, at);
}

const compressions: readonly (readonly [string, string])[] = [
  ["1f8b", "gzip twice"],
  ["28b52ffd", "zstd"],
  ["fd377a58", "xz"],
  ["425a68", "bzip2"],
  ["504b0304", "zip"],
];

function refuseCompressed(chunk: Uint8Array): void {
  const start = Buffer.from(chunk.subarray(0, 4)).toString("hex");
  const [, name] = compressions.find(([magic]) => start.startsWith(magic)) ?? [];
  if (name === undefined) return;
  throw new MayflyError("invalid", `the archive is compressed by ${name}`, {
    hint: "Send a tar archive as it is, or by gzip.",
  });
}

function refused({ path }: ReadEntry, why: string): MayflyError {
  return new MayflyError("invalid", `the archive's entry ${quote(path)} is refused: ${why}`);
}
