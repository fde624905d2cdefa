import type { LabelParts } from "../domain/broker-label.ts";
import { MayflyError } from "../domain/errors.ts";
import type { ForgeRun, RunWithJobs } from "../forges/forge.ts";
import { loansOfRun } from "../store/loans.ts";
import type { Database } from "../store/store.ts";
import type { LookUps } from "./look-ups.ts";
import { isSameName, type Terms } from "./terms.ts";

export interface FoundRun {
  readonly repository: string;
  readonly run: RunWithJobs;
  /** False: it is one that may have asked, since the label does not name any. */
  readonly isConfirmed: boolean;
}

/** Which run an order is for, as far as the request says. */
export interface RunHints {
  readonly label: LabelParts;
  readonly repository: string | null;
  readonly run: string | null;
  readonly architectures: readonly string[];
}

export interface FindParts {
  readonly db: Database;
  readonly terms: Terms;
  readonly lookUps: LookUps;
}

/** Runs looked at for one that may have asked under a label that names none. */
const candidatesMax = 8;

/**
 * The run that an order is for: in progress at the forge, in a repository that may borrow. Throws
 * `forbidden` when there is none, `conflict` when it is at another attempt.
 */
export async function findRun(parts: FindParts, hints: RunHints): Promise<FoundRun> {
  const { settings } = parts.terms;
  const named = hints.repository;
  const repositories =
    named === null
      ? settings.repositories
      : settings.repositories.filter((name) => isSameName(name, named));
  if (repositories.length === 0) throw refusal("that repository may not borrow machines here");
  const id = hints.label.run ?? hints.run;
  if (hints.run !== null && hints.run !== id) {
    throw new MayflyError("invalid", "the label names another run than `run_id`");
  }
  const found =
    id === null
      ? await searched(parts, repositories, hints.architectures)
      : await byNumber(parts, repositories, id);
  if (found === null) {
    throw refusal(
      id === null
        ? "no run is in progress that may borrow machines and has not had them"
        : `run ${id} is not in progress in a repository that may borrow machines here`,
    );
  }
  const { attempt } = hints.label;
  if (attempt !== null && attempt !== found.run.attempt) {
    throw new MayflyError("conflict", `the run is at attempt ${found.run.attempt} by now`);
  }
  return { ...found, isConfirmed: id !== null };
}

type Found = Omit<FoundRun, "isConfirmed">;

/**
 * Asked for by its number, as long as few are; then only what the repositories' lists show, which
 * cost the same whatever is asked. Throws `too_many` for one that neither may tell of.
 */
async function byNumber(
  { lookUps, terms }: FindParts,
  repositories: readonly string[],
  id: string,
): Promise<Found | null> {
  let isAsked = true;
  for (const repository of repositories) {
    const isListed = lookUps.lists(repository, id) || !lookUps.mayAsk(repository, id);
    if (isListed && !(await lookUps.open(repository)).some((run) => run.id === id)) {
      isAsked = false;
      continue;
    }
    const run = await lookUps.run(repository, id);
    if (run !== null && mayBorrow(run, terms)) return { repository, run };
  }
  if (isAsked) return null;
  throw new MayflyError("too_many", `run ${id} is not shown by the forge yet`, {
    hint: "Ask again in some seconds.",
  });
}

/** One that has a job at work, which may be the one that asks, and has had no such machines yet. */
async function searched(
  { db, lookUps, terms }: FindParts,
  repositories: readonly string[],
  architectures: readonly string[],
): Promise<Found | null> {
  let left = candidatesMax;
  for (const repository of repositories) {
    for (const listed of await lookUps.open(repository)) {
      if (!mayBorrow(listed, terms)) continue;
      if (left-- <= 0) return null;
      const run = await lookUps.run(repository, listed.id);
      if (run === null || !mayBorrow(run, terms)) continue;
      if (run.jobs.every(({ state }) => state !== "started")) continue;
      const lent = (await loansOfRun(db, repository, run.id)).filter(
        ({ attempt, architecture }) =>
          attempt === run.attempt && architectures.includes(architecture),
      );
      const isFull = architectures.some(
        (one) =>
          lent.filter(({ architecture }) => architecture === one).length >= terms.settings.perRun,
      );
      if (!isFull) return { repository, run };
    }
  }
  return null;
}

function mayBorrow({ isOver, workflow }: ForgeRun, { settings }: Terms): boolean {
  const { workflows } = settings;
  return !isOver && (workflows.length === 0 || (workflow !== null && workflows.includes(workflow)));
}

function refusal(message: string): MayflyError {
  return new MayflyError("forbidden", message);
}
