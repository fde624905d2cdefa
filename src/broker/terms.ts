import { architectureLabel, brokerForge, type BrokerSettings } from "../domain/broker.ts";
import { LabelTemplate } from "../domain/broker-label.ts";
import type { JobSighting } from "../domain/job.ts";
import type { Loan } from "../domain/loan.ts";
import type { Forge, RunWithJobs } from "../forges/forge.ts";

/** A broker's settings with what follows from them. */
export interface Terms {
  readonly settings: BrokerSettings;
  readonly template: LabelTemplate;
}

export function termsOf(settings: BrokerSettings): Terms {
  return { settings, template: new LabelTemplate(settings.label, Object.keys(settings.pools)) };
}

/** Whether two are one repository's name: forges keep the case, and do not tell names apart by it. */
export function isSameName(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

/** What `runs-on` has to say for a machine: the first wire version names the architecture once. */
export function runsOn(label: string, architecture: string, isInLabel: boolean): readonly string[] {
  return isInLabel ? [label] : [label, architectureLabel(architecture)];
}

/** The job that stands for a loan, in the fleet's words; `waiting` unless said otherwise. */
export function loanSighting(loan: Loan, more: Partial<JobSighting> = {}): JobSighting {
  return {
    forge: brokerForge,
    externalId: loan.id,
    attempt: 1,
    state: "waiting",
    outcome: null,
    name: `${loan.architecture} lent to ${loan.repository} run ${loan.run}`,
    repository: loan.repository,
    labels: loan.labels,
    trust: loan.trust,
    url: loan.url,
    runner: null,
    queuedAt: loan.lentAt,
    startedAt: null,
    endedAt: null,
    work: null,
    ...more,
  };
}

/** Of a forge's sightings, whatever a loan's own job takes over from one. */
export function asLoan(loan: Loan, job: JobSighting): JobSighting {
  const { state, outcome, runner, startedAt, endedAt, url } = job;
  return loanSighting(loan, { state, outcome, runner, startedAt, endedAt, url: loan.url ?? url });
}

/** Whether a job is one that the loan's machine is for. */
export function isFor(forge: Pick<Forge, "match">, loan: Loan, job: JobSighting): boolean {
  const label = loan.label.toLowerCase();
  return (
    job.labels.some((asked) => asked.toLowerCase() === label) &&
    forge.match(job.labels, loan.labels)
  );
}

/**
 * The job of a run that tells how a loan stands: the one that its machine has; else the one furthest
 * from its end, since several may ask for the same labels. Null: none asks for it.
 */
export function tellingJob(
  forge: Pick<Forge, "match">,
  loan: Loan,
  { jobs }: Pick<RunWithJobs, "jobs">,
  runner: string | null,
): JobSighting | null {
  const asking = jobs.filter((job) => isFor(forge, loan, job));
  const its = runner === null ? undefined : asking.find((job) => job.runner === runner);
  if (its !== undefined) return its;
  const states = ["started", "waiting", "ended"] as const;
  for (const state of states) {
    const found = asking.find((job) => job.state === state);
    if (found !== undefined) return found;
  }
  return null;
}
