import { architectureLabel, brokerForge } from "../domain/broker.ts";
import { MayflyError, type ErrorCode } from "../domain/errors.ts";
import type { JobSighting } from "../domain/job.ts";
import type { Loan } from "../domain/loan.ts";
import type { Runner } from "../domain/runner.ts";
import type { Forge, KnownJob, RunnerOrders, RunWithJobs } from "../forges/forge.ts";
import type { Log } from "../fleet/log.ts";
import { atOnce } from "../forges/at-once.ts";
import {
  closeEnded,
  confirmLoan,
  endLoan,
  findLoan,
  loanOfClass,
  noteReady,
  openLoans,
  runnerOfLoan,
  settleLoans,
} from "../store/loans.ts";
import type { Store } from "../store/store.ts";
import type { LookUps } from "./look-ups.ts";
import { endOrder, lateReason } from "./orders.ts";
import { asLoan, loanSighting, tellingJob, type Terms } from "./terms.ts";

export interface LenderParts {
  /** The configured forge. */
  readonly inner: Forge;
  readonly store: Store;
  readonly terms: Terms;
  readonly lookUps: LookUps;
  readonly now: () => number;
  readonly log: Log;
}

const lookUpsAtOnce = 4;
/** Runs looked through for one whose jobs show a label that names none. */
const searchedMax = 10;
/** Asked again, the forge would say the same. */
const lasting: readonly ErrorCode[] = ["invalid", "unauthenticated", "forbidden", "not_found"];

/**
 * What was lent, as a forge of its own: each loan is a job that waits for a machine with exactly the
 * labels of the workflow's `runs-on`, and how it stands is what the configured forge says of the
 * run's jobs with these labels. Planning, making, handing over and sweeping know nothing of brokers.
 */
export function lender(parts: LenderParts): Forge {
  const { inner, store, terms } = parts;
  return {
    name: brokerForge,
    match: (asked, offered) =>
      asked.every((label) => {
        const ours = terms.template.parse(label);
        if (ours === null) return offered.includes(label);
        return ours.architecture === null || offered.includes(architectureLabel(ours.architecture));
      }),
    verify: () => {
      throw new MayflyError("unauthenticated", "the broker takes no events", {
        hint: `Send them to /v1/forges/${inner.name}/events.`,
      });
    },
    poll: (signal) => poll(parts, signal),
    find: async (job: KnownJob) => {
      const loan = await findLoan(store.db, job.externalId);
      if (loan === null) return null;
      const over = { state: "ended", outcome: "cancelled", endedAt: loan.overAt } as const;
      return loanSighting(loan, loan.overAt === null ? {} : over);
    },
    mint: (runner, context) => inner.mint(runner, context),
    handOver: (runner, context, signal) =>
      handOver(parts, runner, () => inner.handOver?.(runner, context, signal)),
    // The configured forge's own sweep sees all registrations, these among them.
    registrations: () => Promise.resolve([]),
    remove: (name, signal) => inner.remove(name, signal),
  };
}

async function handOver(
  { store, inner }: LenderParts,
  runner: Runner,
  register: () => Promise<RunnerOrders | null> | undefined,
): Promise<RunnerOrders | null> {
  const loan = await loanOfClass(store.db, runner.pool, runner.labelClass);
  if (loan === null || loan.overAt !== null) {
    throw new MayflyError("conflict", loan === null ? "nothing lent it" : loan.reason);
  }
  try {
    const orders = (await register()) ?? null;
    const reason =
      orders === null
        ? `${runner.name} is up, and will be registered at ${inner.name} when its job waits`
        : `${runner.name} is registered at ${inner.name}`;
    await store.write((tx) => noteReady(tx, loan, reason));
    return orders;
  } catch (error) {
    if (error instanceof MayflyError && lasting.includes(error.code)) {
      const reason = `${inner.name} does not register its runner: ${error.message}`;
      await store.write((tx) => endOrder(tx, loan.label, "error", reason));
    }
    throw error;
  }
}

async function poll(parts: LenderParts, signal: AbortSignal): Promise<readonly JobSighting[]> {
  const { store } = parts;
  await store.write(async (tx) => {
    await closeEnded(tx);
    await settleLoans(tx);
  });
  const loans = await openLoans(store.db);
  const told = await atOnce(loans, lookUpsAtOnce, async (loan) => {
    if (signal.aborted) return null;
    return sighting(parts, loan);
  });
  return told.filter((job) => job !== null);
}

/** How a loan stands now; null: it was ended here. */
async function sighting(parts: LenderParts, loan: Loan): Promise<JobSighting | null> {
  const { store, now, terms } = parts;
  const runner = await runnerOfLoan(store.db, loan);
  const { job, isOver } = await told(parts, loan, runner?.name ?? null);
  if (job !== null && job.state !== "waiting") {
    // The name stays known here when its registration is gone there.
    return asLoan(loan, { ...job, runner: job.runner ?? runner?.name ?? null });
  }
  if (isOver) return end(parts, loan, "its run is over");
  // Its guest says that a job began, and it can be no other.
  if (runner !== null && runner.startedAt !== null) {
    const { name, startedAt } = runner;
    return loanSighting(loan, { state: "started", runner: name, startedAt });
  }
  const { answerSeconds, waitSeconds } = terms.settings;
  if (loan.readyAt === null) {
    if (now() < loan.lentAt + answerSeconds * 1000) return loanSighting(loan);
    const reason = await lateReason(store.db, loan, answerSeconds);
    await store.write((tx) => endOrder(tx, loan.label, "error", reason));
    return null;
  }
  if (now() < loan.readyAt + waitSeconds * 1000) return loanSighting(loan);
  return end(parts, loan, `no job came for it within ${waitSeconds} s`);
}

async function end({ store, log }: LenderParts, loan: Loan, reason: string): Promise<null> {
  await store.write((tx) => endLoan(tx, loan, "cancelled", reason));
  log.info({ loan: loan.id, repository: loan.repository, run: loan.run }, `loan over: ${reason}`);
  return null;
}

/** What the forge says of the machine's job, and whether its run is surely over. */
interface Told {
  readonly job: JobSighting | null;
  readonly isOver: boolean;
}

async function told(parts: LenderParts, loan: Loan, runner: string | null): Promise<Told> {
  const { lookUps, inner } = parts;
  try {
    const run = await lookUps.run(loan.repository, loan.run);
    const job = run === null ? null : tellingJob(inner, loan, run, runner);
    if (loan.isConfirmed) {
      return { job, isOver: run === null || run.isOver || run.attempt > loan.attempt };
    }
    if (run !== null && job !== null) {
      await confirm(parts, loan, run);
      return { job, isOver: false };
    }
    return await searched(parts, loan);
  } catch {
    // The forge cannot be asked now, which was told where it was asked.
    return { job: null, isOver: false };
  }
}

/** Looks for the run whose jobs show a label that was lent to another one by guess. */
async function searched(parts: LenderParts, loan: Loan): Promise<Told> {
  const { lookUps, inner } = parts;
  const open = await lookUps.open(loan.repository);
  for (const { id } of open.slice(0, searchedMax)) {
    const run = await lookUps.run(loan.repository, id);
    const job = run === null ? null : tellingJob(inner, loan, run, null);
    if (run === null || job === null) continue;
    await confirm(parts, loan, run);
    return { job, isOver: false };
  }
  return { job: null, isOver: open.length === 0 };
}

async function confirm({ store }: LenderParts, loan: Loan, run: RunWithJobs): Promise<void> {
  const { id, attempt, url } = run;
  await store.write((tx) => confirmLoan(tx, loan, { run: id, attempt, url }));
}
