import type { Fact, FactKind, SubjectKind } from "../domain/fact.ts";
import { inserter } from "./insert.ts";
import type { FactRow } from "./schema.ts";
import type { Database, Tx } from "./store.ts";

export interface NewFact {
  readonly subjectKind: SubjectKind;
  readonly subject: string;
  readonly kind: FactKind;
  readonly reason: string;
}

/** A reason is a sentence, not a log: what is longer is cut. */
const reasonMax = 1000;

const insertFacts = inserter("facts", ["at", "subject_kind", "subject", "kind", "reason"]);

/** Appends to the history. */
export async function addFacts(tx: Tx, facts: readonly NewFact[]): Promise<void> {
  const rows = facts.map((fact) => ({
    at: tx.now,
    subject_kind: fact.subjectKind,
    subject: fact.subject,
    kind: fact.kind,
    reason: fact.reason.slice(0, reasonMax),
  }));
  await insertFacts(tx, rows);
}

/** The history of one subject, oldest first; at most `limit` of its newest facts. */
export async function history(db: Database, subject: string, limit = 500): Promise<Fact[]> {
  const rows = await db
    .selectFrom("facts")
    .selectAll()
    .where("subject", "=", subject)
    .orderBy("id", "desc")
    .limit(limit)
    .execute();
  return rows.reverse().map(toFact);
}

/** Facts after `afterId`, oldest first: the feed behind live pages. */
export async function factsAfter(db: Database, afterId: number, limit = 200): Promise<Fact[]> {
  const rows = await db
    .selectFrom("facts")
    .selectAll()
    .where("id", ">", afterId)
    .orderBy("id")
    .limit(limit)
    .execute();
  return rows.map(toFact);
}

function toFact(row: FactRow): Fact {
  return {
    id: row.id,
    at: row.at,
    subjectKind: row.subject_kind,
    subject: row.subject,
    kind: row.kind,
    reason: row.reason,
  };
}
