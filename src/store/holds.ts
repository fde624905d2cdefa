import type { Job } from "../domain/job.ts";
import type { Caps } from "../domain/pool.ts";
import { clip } from "../domain/words.ts";
import { sql } from "kysely";
import { addFacts } from "./facts.ts";
import { toJob } from "./rows.ts";
import type { Database, Tx } from "./store.ts";
import { jobTally } from "./tallies.ts";

/*
 * A job beyond what its repository or its owner may have in a pool at once is held: it is in no pool,
 * so nothing is made for it, and it comes into its pool when an earlier one is over.
 */

/** Held jobs looked at in one round; the rest have their turn when these are in. */
const heldMax = 500;

/** Whose jobs are counted together: a repository's, and its owner's. */
interface Share {
  readonly kind: keyof Caps;
  readonly name: string;
  readonly most: number;
}

function sharesOf(repository: string, { perRepository, perOwner }: Caps): readonly Share[] {
  const owner = repository.split("/")[0] ?? repository;
  return [
    ...(perRepository === null
      ? []
      : [{ kind: "perRepository", name: repository, most: perRepository } as const]),
    ...(perOwner === null ? [] : [{ kind: "perOwner", name: owner, most: perOwner } as const]),
  ];
}

/** Open jobs of a pool by share, each counted in the store once and then here. */
class Room {
  readonly #db: Database;
  readonly #pool: string;
  readonly #caps: Caps;
  readonly #open = new Map<string, number>();

  constructor(db: Database, pool: string, caps: Caps) {
    this.#db = db;
    this.#pool = pool;
    this.#caps = caps;
  }

  /** Takes room for one job; or says what has none. */
  async take(repository: string): Promise<string | null> {
    const shares = sharesOf(repository, this.#caps);
    for (const share of shares) {
      const open = await this.#count(share);
      if (open < share.most) continue;
      const of = clip(share.name, 100);
      return `${share.most} jobs of ${of} are in pool ${this.#pool} already (${share.kind})`;
    }
    for (const share of shares) this.#open.set(keyOf(share), (await this.#count(share)) + 1);
    return null;
  }

  async #count(share: Share): Promise<number> {
    const known = this.#open.get(keyOf(share));
    if (known !== undefined) return known;
    let query = this.#db
      .selectFrom("jobs")
      .select((is) => is.fn.countAll<number>().as("open"))
      .where("pool", "=", this.#pool)
      .where("state", "in", ["waiting", "started"]);
    if (share.kind === "perRepository") query = query.where("repository", "=", share.name);
    else {
      // Between "owner/" and the character after the slash: what a prefix is, on both engines.
      query = query
        .where("repository", ">=", `${share.name}/`)
        .where("repository", "<", `${share.name}0`);
    }
    const { open } = await query.executeTakeFirstOrThrow();
    this.#open.set(keyOf(share), open);
    return open;
  }
}

function keyOf({ kind, name }: Share): string {
  return `${kind} ${name}`;
}

/** Lets held jobs into their pool, the oldest first, as far as there is room for each. */
export async function releaseHeld(tx: Tx, pool: string, caps: Caps): Promise<void> {
  // Those that their forge gave to a machine all the same are the pool's, and count from now on.
  await tx.db
    .updateTable("jobs")
    .set({ held_pool: null, pool })
    .where("held_pool", "=", pool)
    .where("state", "<>", "waiting")
    .execute();
  const rows = await tx.db
    .selectFrom("jobs")
    .selectAll()
    .where("held_pool", "=", pool)
    .orderBy("queued_at")
    .orderBy("id")
    .limit(heldMax)
    .execute();
  const room = new Room(tx.db, pool, caps);
  for (const job of rows.map(toJob)) {
    const why = await room.take(job.repository);
    if (why === null) await letIn(tx, pool, job);
    else await say(tx, job, why);
  }
}

async function letIn(tx: Tx, pool: string, job: Job): Promise<void> {
  // One that was never held back knows already why it is in this pool.
  const wasHeld = job.seenAt !== tx.now;
  const reason = wasHeld ? `there is room for it in pool ${pool} now` : job.reason;
  await tx.db
    .updateTable("jobs")
    .set({ held_pool: null, pool, reason })
    .where("id", "=", job.id)
    .execute();
  tx.deltas.add(pool, job.labelClass, jobTally("waiting"), 1);
  tx.wake(`pool/${pool}`);
  if (!wasHeld) return;
  await addFacts(tx, [{ subjectKind: "job", subject: job.id, kind: "noted", reason }]);
  tx.wake(`job/${job.id}`);
}

/** Repositories compared in one round. */
const repositoriesMax = 10_000;

/**
 * Takes waiting jobs out of their pool, the newest first, where a repository or owner has more there
 * than its share: its forge gave machines to jobs that were held. What runs stays.
 */
export async function holdBack(tx: Tx, pool: string, caps: Caps): Promise<number> {
  const { rows } = await sql<{ repository: string; waiting: number; started: number }>`
    select repository, sum(case when state = 'waiting' then 1 else 0 end) as waiting,
      sum(case when state = 'started' then 1 else 0 end) as started
    from jobs where pool = ${pool} and state in ('waiting', 'started')
    group by repository limit ${repositoriesMax}`.execute(tx.db);
  let taken = 0;
  const open = new Map<string, number>();
  for (const { repository, waiting, started } of rows) {
    for (const share of sharesOf(repository, caps)) {
      const count = (open.get(keyOf(share)) ?? 0) + waiting + started;
      open.set(keyOf(share), count);
    }
  }
  for (const { repository, waiting } of rows) {
    const over = Math.max(
      ...sharesOf(repository, caps).map((share) => (open.get(keyOf(share)) ?? 0) - share.most),
    );
    const count = Math.min(over, waiting);
    if (count <= 0) continue;
    for (const share of sharesOf(repository, caps)) {
      open.set(keyOf(share), (open.get(keyOf(share)) ?? 0) - count);
    }
    taken += await takeOut(tx, pool, repository, count);
  }
  return taken;
}

async function takeOut(tx: Tx, pool: string, repository: string, count: number): Promise<number> {
  const rows = await tx.db
    .selectFrom("jobs")
    .selectAll()
    .where("pool", "=", pool)
    .where("state", "=", "waiting")
    .where("repository", "=", repository)
    .orderBy("queued_at", "desc")
    .orderBy("id", "desc")
    .limit(Math.min(count, heldMax))
    .execute();
  for (const job of rows.map(toJob)) {
    await tx.db
      .updateTable("jobs")
      .set({ pool: null, held_pool: pool })
      .where("id", "=", job.id)
      .execute();
    tx.deltas.add(pool, job.labelClass, jobTally("waiting"), -1);
    await say(tx, job, `others of ${clip(repository, 100)} were given its place in pool ${pool}`);
  }
  return rows.length;
}

/** Why it is held, once as long as that stays so. */
async function say(tx: Tx, { id, reason }: Job, why: string): Promise<void> {
  if (reason === why) return;
  await tx.db.updateTable("jobs").set({ reason: why }).where("id", "=", id).execute();
  await addFacts(tx, [{ subjectKind: "job", subject: id, kind: "noted", reason: why }]);
  tx.wake(`job/${id}`);
}

/** Whether a pool holds any: a look without a write. Only then can one have more than its share. */
export async function holdsAny(db: Database, pool: string): Promise<boolean> {
  const row = await db
    .selectFrom("jobs")
    .select("id")
    .where("held_pool", "=", pool)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}
