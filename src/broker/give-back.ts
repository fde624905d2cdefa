import { MayflyError } from "../domain/errors.ts";
import type { JobSighting } from "../domain/job.ts";
import type { Loan } from "../domain/loan.ts";
import { quote } from "../domain/words.ts";
import type { Intake } from "../fleet/api.ts";
import type { Forge } from "../forges/forge.ts";
import { endLoan, loansOf, runnerOfLoan } from "../store/loans.ts";
import type { Store } from "../store/store.ts";
import type { LookUps } from "./look-ups.ts";
import { machinesOf, type LentMachine } from "./orders.ts";
import { asLoan, tellingJob } from "./terms.ts";

export interface GiveBackParts {
  readonly store: Store;
  readonly lookUps: LookUps;
  readonly intake: Intake;
  /** The configured forge. */
  readonly inner: Forge;
}

/**
 * Ends all of an order, once no job of its run needs it: whoever asks, the forge decides. Throws
 * `conflict` while one does; then nothing is touched.
 */
export async function giveBack(parts: GiveBackParts, label: string): Promise<void> {
  const { store, intake } = parts;
  const machines = await machinesOf(store.db, await loansOf(store.db, label));
  const open = machines.filter(({ state }) => state !== "over");
  // Nothing is written for what nobody was lent.
  if (open.length === 0) return;
  const ended: JobSighting[] = [];
  for (const machine of open) {
    const job = await lastJob(parts, machine);
    if (job?.state === "ended") ended.push(asLoan(machine.loan, job));
  }
  // As its forge would tell of it, so that its runner ends with it.
  if (ended.length > 0) await intake.record(ended);
  await store.write(async (tx) => {
    for (const { loan } of open) await endLoan(tx, loan, "cancelled", "its run gave it back");
  });
}

/** The job that a machine had, which is over; null: it had none, and its run is over. */
async function lastJob(
  { store, lookUps, inner }: GiveBackParts,
  { loan, state }: LentMachine,
): Promise<JobSighting | null> {
  const run = await lookUps.run(loan.repository, loan.run);
  const runner = (await runnerOfLoan(store.db, loan))?.name ?? null;
  const job = run === null ? null : tellingJob(inner, loan, run, runner);
  if (loan.isConfirmed && (run === null || run.isOver || run.attempt > loan.attempt)) return job;
  if (job?.state === "ended") return { ...job, runner: job.runner ?? runner };
  if (job !== null || state === "busy") {
    const does = job?.state === "waiting" ? "waits for" : "runs on";
    throw inUse(loan, `a job of its run ${does} its machine for ${loan.architecture}`);
  }
  throw inUse(loan, "its run may still have jobs for its machines, which end with the run");
}

function inUse({ label }: Loan, why: string): MayflyError {
  return new MayflyError("conflict", `${quote(label)} is in use: ${why}`);
}
