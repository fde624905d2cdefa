import type { JobOutcome } from "../domain/job.ts";
import type { Loan } from "../domain/loan.ts";
import { findBackOff } from "../store/back-offs.ts";
import { endLoan, loansOf, runnerOfLoan } from "../store/loans.ts";
import { findJob } from "../store/questions.ts";
import type { Database, Tx } from "../store/store.ts";

/** An order is all that was lent under one label: it is ready as a whole, or given up as a whole. */
export type MachineState = "waiting" | "ready" | "busy" | "over";

/** How one machine of an order stands, for whoever asked for it. */
export interface LentMachine {
  readonly loan: Loan;
  readonly state: MachineState;
  readonly reason: string;
}

export async function machinesOf(db: Database, loans: readonly Loan[]): Promise<LentMachine[]> {
  const machines: LentMachine[] = [];
  for (const loan of loans) {
    const job = await findJob(db, loan.job);
    if (loan.overAt !== null || job?.state === "ended") {
      const reason =
        loan.reason === "" ? `its job ended: ${job?.outcome ?? "unknown"}` : loan.reason;
      machines.push({ loan, state: "over", reason });
      continue;
    }
    const runner = await runnerOfLoan(db, loan);
    const isBusy = job?.state === "started" || (runner !== null && runner.startedAt !== null);
    const state = isBusy ? "busy" : loan.readyAt === null ? "waiting" : "ready";
    machines.push({ loan, state, reason: reasonOf(state, loan, runner?.state ?? null) });
  }
  return machines;
}

function reasonOf(state: MachineState, { pool }: Loan, runner: string | null): string {
  if (state === "busy") return "it runs its job";
  if (state === "ready") return "its runner is registered and waits for its job";
  switch (runner) {
    case "claimed":
    case "asked":
      return "its machine boots";
    case "up":
      return "its machine is up, its runner is being registered";
    default:
      return `it waits for room in pool ${pool}`;
  }
}

/** Ends all of an order but what runs a job already. True: there was something to end. */
export async function endOrder(
  tx: Tx,
  label: string,
  outcome: JobOutcome,
  reason: string,
): Promise<boolean> {
  let hasEnded = false;
  for (const { loan, state } of await machinesOf(tx.db, await loansOf(tx.db, label))) {
    if (state === "busy" || state === "over") continue;
    if (await endLoan(tx, loan, outcome, reason)) hasEnded = true;
  }
  return hasEnded;
}

/** Why an order's runner is not registered in time, as far as it is known. */
export async function lateReason(db: Database, loan: Loan, seconds: number): Promise<string> {
  const runner = await runnerOfLoan(db, loan);
  const subjects = [
    `pool/${loan.pool}`,
    ...(runner === null ? [] : [`provider/${runner.provider}`]),
  ];
  for (const subject of subjects) {
    const found = await findBackOff(db, subject);
    if (found !== null) return `${late(loan, seconds)}: ${found.reason}`;
  }
  if (runner === null) return `${late(loan, seconds)}: pool ${loan.pool} had no room`;
  return `${late(loan, seconds)}: ${runner.reason}`;
}

function late({ architecture }: Loan, seconds: number): string {
  return `the runner for ${architecture} was not registered within ${seconds} s`;
}
