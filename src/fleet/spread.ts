import { createHash } from "node:crypto";
import { leaseBoard, removeLease, takeLease, type BoardEntry } from "../store/leases.ts";
import type { Store } from "../store/store.ts";
import type { Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";

const replicaKind = "replica/";

/**
 * Which of the living replicas should hold which resource. Resources of one kind (`pool/…`) are
 * dealt out so that nobody has two more than another; by rendezvous hashing, so that all replicas
 * find the same without talking, and few resources move when a replica joins or leaves.
 */
export function preferredHolders(
  resources: readonly string[],
  replicas: readonly string[],
): ReadonlyMap<string, string> {
  const kinds = Map.groupBy(resources, (resource) => resource.split("/", 1)[0] ?? "");
  return new Map([...kinds.values()].flatMap((some) => dealtOut(some, replicas)));
}

/** The strongest pairs first; a replica that has its share gets no more. */
function dealtOut(resources: readonly string[], replicas: readonly string[]): [string, string][] {
  const pairs = resources.flatMap((resource) =>
    replicas.map((replica) => ({ resource, replica, weight: weight(resource, replica) })),
  );
  pairs.sort((a, b) => (a.weight < b.weight ? 1 : a.weight > b.weight ? -1 : 0));
  const share = Math.floor(resources.length / replicas.length);
  let extras = resources.length % replicas.length;
  const shares = new Map<string, number>();
  const holders = new Map<string, string>();
  for (const { resource, replica } of pairs) {
    const has = shares.get(replica) ?? 0;
    if (holders.has(resource) || has > share || (has === share && extras === 0)) continue;
    if (has === share) extras -= 1;
    holders.set(resource, replica);
    shares.set(replica, has + 1);
  }
  return [...holders];
}

function weight(resource: string, replica: string): string {
  return createHash("sha256").update(`${resource}\n${replica}`).digest("hex");
}

export interface SpreadParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly replica: string;
  readonly leaseMs: number;
  /** Called when there is something to take or to hand over among the resources. */
  readonly changed: (resource: string) => void;
}

/**
 * This replica among the others: tells them that it lives (by a lease of its own), and reads all
 * leases in the same breath. However many resources there are, who waits for one asks only here.
 */
export class Spread {
  readonly #parts: SpreadParts;
  readonly #loop: Loop;
  readonly #resources: string[] = [];
  /** When we first saw a lease free; absent while somebody holds it. */
  readonly #freeSince = new Map<string, number>();
  /** Whom we handed a lease to; if it comes back to us, that replica does not want it. */
  readonly #handedTo = new Map<string, string>();
  #board: ReadonlyMap<string, BoardEntry> = new Map();
  #living: readonly string[] = [];
  #preferred: ReadonlyMap<string, string> = new Map();

  constructor(parts: SpreadParts) {
    this.#parts = parts;
    this.#loop = new Loop(
      parts.clock,
      () => this.#beat(),
      (error) => parts.log.warn({ error: String(error) }, "cannot tell the others that we live"),
    );
  }

  add(resource: string): void {
    this.#resources.push(resource);
  }

  /** Looks at the leases now. */
  wake(): void {
    this.#loop.wake();
  }

  /** Tells the others that we leave, so that they need not wait for it. */
  async stop(): Promise<void> {
    await this.#loop.stop();
    const { store, replica } = this.#parts;
    await store.write((tx) => removeLease(tx, replicaKind + replica)).catch(() => {});
  }

  /** Whether to try for a lease: it is free, and ours to take or left lying by who should. */
  mayTake(resource: string): boolean {
    const since = this.#freeSince.get(resource);
    if (since === undefined) return false;
    return this.#isOurs(resource) || this.#now() - since >= this.#graceMs;
  }

  /** The living replica that should hold in our place what we hold, or null. */
  betterHolder(resource: string): string | null {
    if (this.#isOurs(resource)) return null;
    const better = this.#preferred.get(resource) ?? null;
    return better === this.#handedTo.get(resource) ? null : better;
  }

  handedOver(resource: string, to: string): void {
    this.#handedTo.set(resource, to);
  }

  get #graceMs(): number {
    return this.#parts.leaseMs / 3;
  }

  #isOurs(resource: string): boolean {
    return this.#preferred.get(resource) === this.#parts.replica;
  }

  #now(): number {
    const { clock } = this.#parts;
    return clock.elapsed?.() ?? clock.now();
  }

  /** Resolves to when to look again: to renew, or when a lease runs out unless renewed. */
  async #beat(): Promise<number> {
    const { store, replica, leaseMs } = this.#parts;
    await store.alignClock();
    const board = await store.write(async (tx) => {
      const before = await leaseBoard(tx);
      await takeLease(tx, replicaKind + replica, replica, leaseMs);
      // The others shall not wait for their next look to hand us our share.
      if (!isHeld(before.get(replicaKind + replica))) tx.wake(`lease/${replicaKind}${replica}`);
      return before;
    });
    this.#board = board;
    this.#count(board);
    const now = this.#now();
    for (const resource of this.#resources) {
      if (isHeld(board.get(resource))) this.#freeSince.delete(resource);
      else if (!this.#freeSince.has(resource)) this.#freeSince.set(resource, now);
      if (this.mayTake(resource) || this.#shouldHandOver(resource)) this.#parts.changed(resource);
    }
    return this.#nextLookMs(now);
  }

  #count(board: ReadonlyMap<string, BoardEntry>): void {
    const { replica, log } = this.#parts;
    const others = [...board].filter(
      ([resource, entry]) => resource.startsWith(replicaKind) && isHeld(entry),
    );
    const names = new Set([replica, ...others.map(([, { holder }]) => holder)]);
    const living = [...names].toSorted();
    if (living.join("\n") === this.#living.join("\n")) return;
    this.#living = living;
    this.#handedTo.clear();
    this.#preferred = preferredHolders(this.#resources, living);
    if (living.length > 1) log.info({ replicas: living }, `${living.length} replicas live`);
  }

  #shouldHandOver(resource: string): boolean {
    const { replica } = this.#parts;
    return this.#board.get(resource)?.holder === replica && this.betterHolder(resource) !== null;
  }

  #nextLookMs(now: number): number {
    const renewMs = this.#parts.leaseMs / 3;
    const ends = [...this.#board.values()].filter(isHeld).map(({ leftMs }) => leftMs);
    const graces = [...this.#freeSince.values()].map((since) => since + this.#graceMs - now);
    // A little late, so that what runs out then has run out.
    const soon = [...ends, ...graces.filter((ms) => ms > 0)].map((ms) => ms + lateMs);
    return Math.min(renewMs, ...soon);
  }
}

const lateMs = 20;

function isHeld(entry: BoardEntry | undefined): boolean {
  return entry !== undefined && entry.leftMs > 0;
}
