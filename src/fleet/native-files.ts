import type { Readable } from "node:stream";

/*
 * Where trees and artifacts are kept. Handed in: how a repository is fetched and a file is written
 * is the native forge's matter.
 */

export interface Kept {
  readonly sha256: string;
  readonly bytes: number;
}

/** Files under the digest of their content. */
export interface ContentFolder {
  /** Throws `too_large`, or `unavailable` when the disk is full; then nothing is left of it. */
  keep(body: Readable, bytesMax: number): Promise<Kept>;
  /** Throws `not_found`. */
  open(sha256: string): Promise<Readable>;
  /** Contents not kept (again) since `before` (ms). */
  olderThan(before: number): AsyncIterable<string>;
  /** Removes a content unless it was kept again since `before` (ms). */
  remove(sha256: string, before: number): Promise<void>;
}

/** Trees of repositories as tar archives. */
export interface Sources extends Omit<ContentFolder, "keep"> {
  /**
   * Fetches a repository's tree at a revision and keeps it. Throws `invalid` (an address or
   * revision that is none), `forbidden`, `not_found`, `too_large`, `unavailable`.
   */
  fetch(url: string, revision: string): Promise<FetchedTree>;
  /** Checks every entry of an archive and keeps it. Throws `invalid`, `too_large`, `unavailable`. */
  keep(archive: Readable): Promise<Kept>;
  /** Whether this tree is kept; if so, it stays for another day. */
  has(sha256: string): Promise<boolean>;
  /** Forgets what was only kept to fetch faster. */
  pruneRepositories(before: number): Promise<void>;
}

export interface FetchedTree extends Kept {
  readonly commit: string;
  /** The tree's own object name: the same for commits that differ in their message only. */
  readonly tree: string;
}
