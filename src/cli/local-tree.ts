import { rmSync } from "node:fs";
import { mkdir, mkdtemp, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import type { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";
import { counted, quote } from "../domain/words.ts";
import { git, gitStream, lastLine } from "./git.ts";

/** What makes `git rev-parse` take the word after it for a revision, and for nothing else. */
const verify = ["--verify", "--quiet", "--end-of-options"];

/** A repository on this machine at a revision, to be sent as a tree. */
export interface LocalTree {
  /** The name of its folder. */
  readonly name: string;
  readonly commit: string;
  /** What of the folder is not in the tree, in words; looked at when asked. */
  leftOut(): Promise<readonly string[]>;
  /** The folder that the repository's work tree begins at. */
  readonly top: string;
  /** The tree as a tar archive; what git needs for it lies below `scratch` until it is read. */
  archive(scratch?: string): Promise<Readable>;
  /** A file of the tree at its top; null: it has none of this name. */
  file(name: string): Promise<string | null>;
}

/**
 * Finds the repository around `path` and resolves the revision (HEAD when undefined). Throws
 * `not_found` or `invalid` with what to do.
 */
export async function localTree(path: string, revision: string | undefined): Promise<LocalTree> {
  const folder = await folderAt(path);
  const { top, commit } =
    (await topAndCommit(folder, revision)) ?? (await explained(folder, revision));
  return {
    // One that is pushed to has no work tree, and the name that people know ends before this.
    name: basename(top, ".git"),
    commit,
    leftOut: () => leftOut(top, commit, revision),
    top,
    archive: (scratch = tmpdir()) => archive(top, commit, scratch),
    file: async (name) => {
      const shown = await git(["-C", top, "cat-file", "blob", `${commit}:${name}`]);
      return shown.code === 0 ? shown.stdout : null;
    },
  };
}

async function folderAt(path: string): Promise<string> {
  const folder = resolve(path);
  const isFolder = (await stat(folder).catch(() => null))?.isDirectory() ?? null;
  if (isFolder !== true) {
    const what = isFolder === null ? "there is no folder" : "it is a file, and no folder:";
    throw new MayflyError("not_found", `${what} ${folder}`, {
      where: "--repo",
      hint: "Give a repository's folder or its URL; an archive goes with --tarball.",
    });
  }
  return folder;
}

interface Place {
  readonly top: string;
  readonly commit: string;
}

/** Both in one call of git; null where that will not do. */
async function topAndCommit(folder: string, revision = "HEAD"): Promise<Place | null> {
  const asked = ["--show-toplevel", ...verify, `${revision}^{commit}`];
  const found = await git(["-C", folder, "rev-parse", ...asked]);
  const [, top, commit] =
    /^([^]+)\n([0-9a-f]+)\n$/.exec(found.code === 0 ? found.stdout : "") ?? [];
  return top === undefined || commit === undefined ? null : { top, commit };
}

/** Each by itself, so that what is wrong can be told. */
async function explained(folder: string, revision: string | undefined): Promise<Place> {
  const top = await repositoryAround(folder);
  return { top, commit: await commitOf(top, revision) };
}

async function repositoryAround(folder: string): Promise<string> {
  const found = await git(["-C", folder, "rev-parse", "--show-toplevel"]);
  if (found.code === 0) return found.stdout.replace(/\n$/, "");
  if (/dubious ownership/.test(found.stderr)) {
    throw new MayflyError("forbidden", `git does not trust ${folder}: another user owns it`, {
      where: "--repo",
      hint: `If you do: git config --global --add safe.directory ${folder}`,
    });
  }
  if (/must be run in a work tree/.test(found.stderr)) {
    const { stdout } = await git(["-C", folder, "rev-parse", "--absolute-git-dir"]);
    return stdout.replace(/\n$/, "");
  }
  throw new MayflyError("invalid", `${folder} is not a git repository`, {
    where: "--repo",
    hint: "Run it in one, name one with --repo, or send the folder as it is: tar -c . | mayfly submit --tarball - …",
  });
}

async function commitOf(top: string, revision: string | undefined): Promise<string> {
  const asked = revision ?? "HEAD";
  const found = await git(["-C", top, "rev-parse", ...verify, `${asked}^{commit}`]);
  if (found.code === 0) return found.stdout.trim();
  const { code: isUnborn } = await git(["-C", top, "rev-parse", "--verify", "--quiet", "HEAD"]);
  if (revision === undefined || (isUnborn !== 0 && asked === "HEAD")) {
    throw new MayflyError("not_found", `${top} has no commit yet`, {
      where: "--repo",
      hint: "Commit what is to be run: git add -A && git commit",
    });
  }
  const { stdout: shallow } = await git(["-C", top, "rev-parse", "--is-shallow-repository"]);
  const isShallow = shallow.trim() === "true";
  throw new MayflyError("not_found", `${top} has no revision ${quote(asked)}`, {
    where: "--rev",
    hint: isShallow
      ? "It is a shallow clone, which lacks older commits; get them: git fetch --unshallow"
      : "Look with git log --all, or fetch it first: git fetch",
  });
}

async function leftOut(
  top: string,
  commit: string,
  revision: string | undefined,
): Promise<string[]> {
  const words: string[] = [];
  if (revision === undefined || (await topAndCommit(top))?.commit === commit) {
    const status = await git(["-C", top, "status", "--porcelain", "--untracked-files=normal"]);
    const changed = status.code === 0 ? status.stdout.split("\n").length - 1 : 0;
    if (changed > 0) words.push(`${counted(changed, "change")} not committed`);
  }
  const told = ["ls-tree", "--name-only", commit, ".gitattributes", ".gitmodules"];
  const { stdout: files } = await git(["-C", top, ...told]);
  if (files.includes(".gitmodules")) words.push("the submodules");
  if (files.includes(".gitattributes") && (await lacksLargeFiles(top, commit))) {
    words.push("what Git LFS holds (git-lfs is not set up)");
  }
  return words;
}

/** Whether files come as pointers: the archive has their contents where git-lfs is set up. */
async function lacksLargeFiles(top: string, commit: string): Promise<boolean> {
  const attributes = await git(["-C", top, "cat-file", "blob", `${commit}:.gitattributes`]);
  if (attributes.code !== 0 || !/\bfilter=lfs\b/.test(attributes.stdout)) return false;
  const filters = await git([
    "-C",
    top,
    "config",
    "--get-regexp",
    "^filter\\.lfs\\.(process|smudge)$",
  ]);
  return filters.code !== 0;
}

/**
 * By way of an empty repository that borrows the objects: there, attributes that keep files out of
 * releases do not count, and a test needs the whole tree.
 */
async function archive(top: string, commit: string, scratch: string): Promise<Readable> {
  const asked = ["--show-object-format", "--path-format=absolute", "--git-path", "objects"];
  const { stdout } = await git(["-C", top, "rev-parse", ...asked]);
  const [format = "", objects = ""] = stdout.split(/\n([^]*)/);
  const folder = await mkdtemp(join(scratch, "mayfly-archive-"));
  // At once, and at the latest when we end: a command that is done does not wait for anything.
  const remove = (): void => {
    process.off("exit", remove);
    try {
      rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 });
    } catch {
      // A git that is still at work there keeps it from going; it is small, and below /tmp.
    }
  };
  process.once("exit", remove);
  try {
    const options = ["--quiet", "--bare", "--template=", `--object-format=${format}`];
    const made = await git(["init", ...options, folder]);
    if (made.code !== 0)
      throw new MayflyError("unavailable", `git could not: ${lastLine(made.stderr)}`);
    await mkdir(join(folder, "info"), { recursive: true });
    await writeFile(join(folder, "info", "attributes"), "* -export-ignore -export-subst\n");
    await mkdir(join(folder, "objects", "info"), { recursive: true });
    await writeFile(join(folder, "objects", "info", "alternates"), objects);
  } catch (error) {
    remove();
    throw error;
  }
  const stream = gitStream([`--git-dir=${folder}`, "archive", "--format=tar", commit]);
  stream.once("close", remove);
  return stream;
}
