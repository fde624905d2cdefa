import { brokerForge } from "../domain/broker.ts";
import { MayflyError } from "../domain/errors.ts";
import { jobId } from "../domain/job.ts";
import type { Loan } from "../domain/loan.ts";
import { labelClass, place } from "../domain/matching.ts";
import { cost, type Price } from "../domain/money.ts";
import type { Pool } from "../domain/pool.ts";
import type { Clock } from "../fleet/clock.ts";
import type { Forge } from "../forges/forge.ts";
import { recordSightings, type PlacedSighting } from "../store/jobs.ts";
import { countLoans, findLoan, insertLoans, lockLoans } from "../store/loans.ts";
import type { Store } from "../store/store.ts";
import { budgetState, objection } from "./checks.ts";
import type { FoundRun } from "./find-run.ts";
import { loanSighting, runsOn, type Terms } from "./terms.ts";

/** A loan with the job that stands for it, before either is recorded. */
export interface Draft {
  readonly loan: Loan;
  readonly placed: PlacedSighting;
}

export interface DraftParts {
  readonly terms: Terms;
  readonly clock: Clock;
  /** The configured forge. */
  readonly inner: Forge;
  readonly lender: Forge;
  readonly pools: readonly Pool[];
  readonly price: (pool: Pool) => Price;
}

/** Throws `forbidden` when no pool takes such a job: its architecture, or whose code it is. */
export function draft(
  { terms, clock, inner, lender, pools, price }: DraftParts,
  wish: { readonly label: string; readonly isInLabel: boolean },
  architecture: string,
  { repository, run, isConfirmed }: FoundRun,
  address: string,
): Draft {
  const id = `${wish.label}.${architecture}`;
  const labels = runsOn(wish.label, architecture, wish.isInLabel);
  // Whose code will come under a label that names no run nobody can say.
  const trust = isConfirmed ? run.trust : "fork";
  const placement = place({ forge: brokerForge, labels, trust }, pools, lender.match);
  if (placement.pool === null) {
    throw new MayflyError("forbidden", `no machines of ${architecture}: ${placement.reason}`);
  }
  const { pool, size, reason } = placement;
  const seconds = pool.bootDeadlineSeconds + terms.settings.waitSeconds + pool.jobDeadlineSeconds;
  const loan: Loan = {
    ...{ id, job: jobId(brokerForge, id, 1), label: wish.label, architecture, labels },
    ...{ labelClass: labelClass(labels), pool: pool.name, forge: inner.name, repository },
    ...{ run: run.id, attempt: run.attempt, isConfirmed, trust, url: run.url, address },
    ...{ lentAt: clock.now(), readyAt: null, overAt: null, reason: "" },
    reservedMicroUsd: cost(price(pool), 0, seconds * 1000),
    spentMicroUsd: null,
  };
  const { caps } = pool;
  const placed: PlacedSighting = {
    ...{ sighting: loanSighting(loan), labelClass: loan.labelClass, pool: pool.name, size },
    ...{ reason, refused: false },
    caps: caps.perRepository === null && caps.perOwner === null ? null : caps,
  };
  return { loan, placed };
}

/**
 * Records all of an order or none, with its jobs, under the caps and the budget as they are in the
 * very unit that writes. Returns why not, or how the budget stands then.
 */
export function record(
  store: Store,
  terms: Terms,
  drafts: readonly Draft[],
): Promise<MayflyError | "well" | "low"> {
  const loans = drafts.map(({ loan }) => loan);
  const wanted = {
    machines: loans.length,
    microUsd: loans.reduce((sum, { reservedMicroUsd }) => sum + reservedMicroUsd, 0),
  };
  return store.write(async (tx) => {
    const [first] = loans;
    if (first === undefined) return "well";
    await lockLoans(tx);
    // Somebody else's request for the same was quicker, and had the same checks.
    for (const { id } of loans) if ((await findLoan(tx.db, id)) !== null) return "well";
    const architectures = loans.map(({ architecture }) => architecture);
    const counts = await countLoans(tx.db, tx.now, { ...first, architectures });
    const refusal = objection(counts, wanted, terms.settings);
    if (refusal !== null) return refusal;
    await insertLoans(tx, loans);
    await recordSightings(
      tx,
      drafts.map(({ placed }) => placed),
    );
    return budgetState(counts.todayMicroUsd + wanted.microUsd, terms.settings);
  });
}
