import { createHash } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdir, readdir, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip } from "node:zlib";
import pLimit from "p-limit";
import { MayflyError } from "../../domain/errors.ts";
import { isCommitId } from "../../domain/native-work.ts";
import { quote } from "../../domain/words.ts";
import { ContentFolder, type Kept } from "./content-folder.ts";
import { git, gitConfiguration, startGit, type GitRun } from "./git.ts";
import { checkRevision, readAddress, type Address, type SourcePolicy } from "./source-rules.ts";
import { TreeCheck } from "./tree-check.ts";

const treeBytesMax = 2 * 1024 ** 3;
const entriesMax = 500_000;
/** Of one pack file, which is compressed. */
const packBytesMax = 2 * 1024 ** 3;
const fetchMs = 300_000;
const atOnce = 4;
/** Beyond so many fetches a repository is fetched afresh: only its newest trees are of use. */
const packsMax = 50;

export interface SourcesParts {
  /** Mayfly's state folder. */
  readonly folder: string;
  readonly policy: SourcePolicy;
  readonly now: () => number;
}

export interface FetchedTree extends Kept {
  readonly commit: string;
  readonly tree: string;
}

/** Trees of repositories as tar archives, fetched or uploaded. */
export class NativeSources {
  readonly #policy: SourcePolicy;
  readonly #now: () => number;
  readonly #trees: ContentFolder;
  readonly #repositories: string;
  readonly #configuration: string;
  readonly #limit = pLimit(atOnce);
  /** The last fetch of each repository under way: the next waits for it. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor({ folder, policy, now }: SourcesParts) {
    this.#policy = policy;
    this.#now = now;
    this.#trees = new ContentFolder(join(folder, "sources"), ".tar", now);
    this.#repositories = join(folder, "git");
    mkdirSync(this.#repositories, { recursive: true, mode: 0o700 });
    this.#configuration = join(this.#repositories, "config");
    writeFileSync(this.#configuration, gitConfiguration, { mode: 0o600 });
  }

  /**
   * Fetches a repository's tree at a revision and keeps it as an archive. The same commit gives the
   * same archive. Throws `invalid`, `forbidden`, `not_found`, `too_large`, `unavailable`.
   */
  async fetch(url: string, revision: string): Promise<FetchedTree> {
    checkRevision(revision);
    const address = await readAddress(url, this.#policy);
    try {
      return await this.#inTurn(address.text, () =>
        this.#limit(() => this.#fetch(address, revision)),
      );
    } catch (error) {
      if (!(error instanceof MayflyError) || error.where !== undefined) throw error;
      const where =
        error.code === "not_found" && /revision/.test(error.message)
          ? "source.revision"
          : "source.url";
      throw new MayflyError(error.code, `${quote(revision)} of ${url}: ${error.message}`, {
        where,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
      });
    }
  }

  /** Keeps an archive, plain or by gzip, once every entry is found good. */
  keep(archive: Readable): Promise<Kept> {
    const check = new TreeCheck({ entriesMax, bytesMax: treeBytesMax, outerLinks: "refuse" });
    archive.on("error", () => {});
    return this.#trees.keep(Readable.from(plain(archive)), treeBytesMax, check);
  }

  open(sha256: string): Promise<Readable> {
    return this.#trees.open(sha256);
  }

  has(sha256: string): Promise<boolean> {
    return this.#trees.has(sha256);
  }

  olderThan(before: number): AsyncIterable<string> {
    return this.#trees.olderThan(before);
  }

  remove(sha256: string, before: number): Promise<void> {
    return this.#trees.remove(sha256, before);
  }

  /** Removes repositories that nothing was fetched into since `before` (ms). */
  async pruneRepositories(before: number): Promise<void> {
    for (const name of await readdir(this.#repositories)) {
      const path = join(this.#repositories, name);
      if (!name.endsWith(".git") || this.#turns.has(path)) continue;
      const changed = (await stat(path).catch(() => null))?.mtimeMs ?? Infinity;
      if (changed < before) await rm(path, { recursive: true, force: true });
    }
  }

  async #fetch(address: Address, revision: string): Promise<FetchedTree> {
    const folder = this.#folderOf(address.text);
    await this.#makeRepository(folder);
    const run: GitRun = {
      folder,
      configuration: this.#configuration,
      protocol: address.protocol,
      deadlineMs: fetchMs,
      fileBytesMax: packBytesMax,
    };
    const local = { ...run, protocol: null };
    const fetched = "refs/mayfly/fetched";
    if (isCommitId(revision) && (await this.#hasCommit(local, revision))) {
      await git(local, ["update-ref", "--end-of-options", fetched, revision]);
    } else {
      const options = [
        "--quiet",
        "--no-tags",
        "--depth=1",
        "--update-shallow",
        "--no-write-fetch-head",
      ];
      await git(run, [
        "fetch",
        ...options,
        "--end-of-options",
        address.text,
        `+${revision}:${fetched}`,
      ]);
    }
    const names = await git(local, [
      "rev-parse",
      "--verify",
      "--end-of-options",
      `${fetched}^{commit}`,
    ]);
    const tree = await git(local, [
      "rev-parse",
      "--verify",
      "--end-of-options",
      `${fetched}^{tree}`,
    ]);
    return { ...(await this.#archive(local, names)), commit: names, tree };
  }

  async #hasCommit(run: GitRun, commit: string): Promise<boolean> {
    return git(run, ["cat-file", "-e", `${commit}^{commit}`]).then(
      () => true,
      () => false,
    );
  }

  /** By the commit, not its tree: then the entries' time is the commit's, and not now. */
  async #archive(run: GitRun, commit: string): Promise<Kept> {
    const child = startGit(run, ["archive", "--format=tar", "--end-of-options", commit]);
    const check = new TreeCheck({ entriesMax, bytesMax: treeBytesMax, outerLinks: "allow" });
    child.done.catch(() => {});
    try {
      return await this.#trees.keep(child.stdout, treeBytesMax, {
        write: (chunk) => check.write(chunk),
        end: async () => {
          await child.done;
          check.end();
        },
      });
    } catch (error) {
      child.kill();
      throw error;
    }
  }

  async #makeRepository(folder: string): Promise<void> {
    const packs = await readdir(join(folder, "objects", "pack")).catch(() => null);
    // What a fetch that was killed left behind.
    const isCut = packs?.some((name) => name.startsWith("tmp_")) ?? false;
    if (packs !== null && packs.length <= 3 * packsMax && !isCut) {
      const at = new Date(this.#now());
      await utimes(folder, at, at);
      return;
    }
    await rm(folder, { recursive: true, force: true });
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const run = {
      folder,
      configuration: this.#configuration,
      protocol: null,
      deadlineMs: 30_000,
      fileBytesMax: packBytesMax,
    };
    await git(run, ["init", "--quiet", "--bare", "--template="]);
    // A test needs the whole tree: attributes that leave files out of releases do not count.
    await mkdir(join(folder, "info"), { recursive: true });
    await writeFile(join(folder, "info", "attributes"), "* -export-ignore -export-subst\n");
  }

  #folderOf(address: string): string {
    const name = createHash("sha256").update(address).digest("hex").slice(0, 40);
    return join(this.#repositories, `${name}.git`);
  }

  async #inTurn<T>(address: string, work: () => Promise<T>): Promise<T> {
    const folder = this.#folderOf(address);
    const before = this.#turns.get(folder) ?? Promise.resolve();
    const mine = before.then(work, work);
    const settled = mine.catch(() => {});
    this.#turns.set(folder, settled);
    try {
      return await mine;
    } finally {
      if (this.#turns.get(folder) === settled) this.#turns.delete(folder);
    }
  }
}

/** The archive itself, whether it came by gzip or not. */
async function* plain(archive: Readable): AsyncIterable<Buffer> {
  const pieces = archive.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
  const first = await pieces.next();
  if (first.done === true) return;
  const all = async function* (): AsyncIterable<Buffer> {
    yield first.value;
    yield* pieces;
  };
  if (first.value[0] !== 0x1f || first.value[1] !== 0x8b) {
    yield* all();
    return;
  }
  const gunzip = createGunzip();
  const feeding = pipeline(all(), gunzip);
  feeding.catch(() => {});
  try {
    yield* gunzip as AsyncIterable<Buffer>;
    await feeding;
  } catch (error) {
    if (error instanceof MayflyError) throw error;
    const detail = error instanceof Error ? error.message : String(error);
    throw new MayflyError("invalid", `the archive's gzip is broken: ${detail}`);
  }
}
