import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { basename } from "node:path";
import { MayflyError } from "../domain/errors.ts";
import type { NativeSource } from "../domain/job.ts";
import { listed } from "../domain/words.ts";
import type { Client } from "./client.ts";
import { localTree } from "./local-tree.ts";

export interface SourceFlags {
  /** A path, a URL, or false for none. Undefined: the repository here. */
  readonly repo?: string | false;
  readonly rev?: string;
  readonly tarball?: string;
}

export interface ChosenSource {
  /** What people see. */
  readonly repository: string;
  readonly source: NativeSource;
}

/**
 * What a job is to be run on, uploaded where it is on this machine. `say` is told what was left out.
 * Throws `invalid`, `not_found` or `unavailable` with what to do.
 */
export async function chooseSource(
  client: Client,
  flags: SourceFlags,
  say: (line: string) => void,
): Promise<ChosenSource> {
  const { repo, rev, tarball } = flags;
  if (tarball !== undefined) {
    if (repo !== undefined || rev !== undefined) {
      throw new MayflyError("invalid", "an archive has neither repository nor revision", {
        where: "--tarball",
        hint: "Leave out --repo and --rev, or --tarball.",
      });
    }
    const sha256 = await uploadTree(client, await openArchive(tarball));
    const repository = tarball === "-" ? "standard input" : basename(tarball);
    return { repository, source: { kind: "tree", sha256, commit: null } };
  }
  if (repo === false) return { repository: "", source: { kind: "none" } };
  if (repo !== undefined && isUrl(repo)) {
    return { repository: repo, source: { kind: "git", url: repo, revision: rev ?? "HEAD" } };
  }
  const tree = await localTree(repo ?? ".", rev);
  const short = tree.commit.slice(0, 10);
  const leftOut = await tree.leftOut();
  if (leftOut.length > 0) {
    say(`${tree.name} at ${short} is sent as committed; left out: ${listed(leftOut)}`);
  }
  const sha256 = await uploadTree(client, await tree.archive());
  return { repository: tree.name, source: { kind: "tree", sha256, commit: tree.commit } };
}

/** `https://…`, `ssh://…` or `user@host:path`; anything else is a path. */
function isUrl(text: string): boolean {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(text) || /^[\w.-]+@[\w.-]+:/.test(text);
}

async function openArchive(tarball: string): Promise<Readable> {
  if (tarball === "-") {
    if (!process.stdin.isTTY) return process.stdin;
    throw new MayflyError("invalid", "standard input is a terminal, and no archive", {
      where: "--tarball",
      hint: "Pipe one in: tar -c . | mayfly submit --tarball - …",
    });
  }
  const found = await stat(tarball).catch(() => null);
  if (found?.isFile() === true) return createReadStream(tarball);
  const what = found === null ? "there is no file" : "this is no file:";
  throw new MayflyError("not_found", `${what} ${tarball}`, {
    where: "--tarball",
    hint: "Give a tar archive, plain or by gzip; a folder's repository goes with --repo.",
  });
}

/** Sends a tar archive; its digest names it from then on. */
export async function uploadTree(client: Client, archive: Readable): Promise<string> {
  const body = Readable.toWeb(archive) as ReadableStream<Uint8Array>;
  const { sha256 } = await client.upload<{ sha256: string }>(
    "/v1/trees",
    "application/x-tar",
    body,
  );
  return sha256;
}
