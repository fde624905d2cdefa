import { MayflyError } from "../domain/errors.ts";
import type { Fact, FactKind } from "../domain/fact.ts";
import type { JobOutcome } from "../domain/job.ts";
import { formatUsd } from "../domain/money.ts";
import type { Runner, RunnerState } from "../domain/runner.ts";
import { counted } from "../domain/words.ts";
import type { Fleet } from "../fleet/api.ts";
import { history } from "../store/facts.ts";
import { findRerun, type Rerun } from "../store/reruns.ts";
import { findJob, findRunner, type StoredJob } from "../store/questions.ts";
import { classTally } from "../store/statistics.ts";
import { costSoFar } from "./views.ts";
import { duration, relative, sizeText } from "./words.ts";

/*
 * Why a job waits, is where it is, or ended; why a machine is there. In words, from what the fleet
 * has decided and noted.
 */

export interface Why {
  readonly id: string;
  readonly kind: "job" | "machine";
  readonly state: string;
  readonly summary: string;
  readonly because: readonly { readonly at: number | null; readonly text: string }[];
  readonly advice: string | null;
}

/** What we say of one moment: the sentence, and what to do about it. */
export interface Answer {
  readonly summary: string;
  readonly advice: string | null;
}

/** Answers for a job's id or a machine's name. Throws `not_found`. */
export async function why(fleet: Fleet, id: string, now: number): Promise<Why> {
  const { db } = fleet.store;
  const job = await findJob(db, id);
  if (job !== null) {
    const machine = job.runner === null ? null : await findRunner(db, job.runner);
    const [own, ofMachine] = await Promise.all([
      history(db, job.id),
      machine === null ? [] : history(db, machine.name),
    ]);
    const answer = await whyJob(fleet, job, machine, now);
    const because = [...own, ...ofMachine]
      .sort((a, b) => a.id - b.id)
      .map((fact) => told(fact, fact.subjectKind === "runner" ? "machine " : ""));
    return { id, kind: "job", state: job.state, ...answer, because };
  }
  const machine = await findRunner(db, id);
  if (machine === null) {
    throw new MayflyError("not_found", `there is no job and no machine ${JSON.stringify(id)}`, {
      where: "id",
      hint: "`mayfly jobs` and `mayfly machines` list what there is.",
    });
  }
  const because = (await history(db, machine.name)).map((fact) => told(fact, ""));
  const answer = whyMachine(fleet, machine, now);
  return { id, kind: "machine", state: machine.state, ...answer, because };
}

/** `machine`: that of its runner, when it is ours. */
export async function whyJob(
  fleet: Fleet,
  job: StoredJob,
  machine: Runner | null,
  now: number,
): Promise<Answer> {
  switch (job.state) {
    case "waiting":
      return whyWaiting(fleet, job, now);
    case "started":
      return whyStarted(job, machine, now);
    case "ended":
      return againInstead(await findRerun(fleet.store.db, job.id)) ?? whyEnded(job);
  }
}

/** The sentence of the last plan that holds this job back, if one does. */
function holdOf(fleet: Fleet, job: StoredJob): { reason: string; until: number | null } | null {
  const plan = job.pool === null ? null : fleet.lastPlan(job.pool);
  for (const action of plan?.actions ?? []) {
    const isOurs = action.labelClass === null || action.labelClass === job.labelClass;
    if (action.kind === "hold" && isOurs) return action;
  }
  return null;
}

async function whyWaiting(fleet: Fleet, job: StoredJob, now: number): Promise<Answer> {
  if (job.pool === null) {
    return {
      summary: `No pool here takes it: ${job.reason}.`,
      advice: "If it is meant for this server, add a pool that offers its labels.",
    };
  }
  const tally = await classTally(fleet.store.db, job.pool, job.labelClass);
  const idle = tally?.idle ?? 0;
  if (idle > 0) {
    return {
      summary: `${counted(idle, "machine")} for its labels ${idle === 1 ? "is" : "are"} up; the forge hands it over any moment.`,
      advice: null,
    };
  }
  const booting = tally?.booting ?? 0;
  if (booting > 0) {
    const ahead =
      (tally?.waiting ?? 1) > booting
        ? `, for ${counted(tally?.waiting ?? 1, "job")} that wait`
        : "";
    return {
      summary: `${counted(booting, "machine")} for its labels ${booting === 1 ? "is" : "are"} starting${ahead}.`,
      advice: null,
    };
  }
  return heldBack(fleet, job, job.pool, now);
}

function heldBack(fleet: Fleet, job: StoredJob, poolName: string, now: number): Answer {
  const pool = fleet.pools.find(({ name }) => name === poolName);
  if (pool === undefined) {
    return {
      summary: `Pool ${poolName}, which would take it, is no longer configured.`,
      advice: "Configure that pool again, or cancel the job and submit it anew.",
    };
  }
  const hold = holdOf(fleet, job);
  const provider = fleet.providers().find(({ name }) => name === pool.provider);
  const backOff = provider?.backOff ?? null;
  if (backOff !== null && backOff.until > now) {
    const { failures, reason, until } = backOff;
    return {
      summary: `Provider ${pool.provider} is asked again ${relative(until, now)}: ${reason} (${counted(failures, "failure")} in a row).`,
      advice: "`mayfly doctor` tests what the provider needs and says how to mend it.",
    };
  }
  if (hold === null) {
    return {
      summary: `It is next in pool ${pool.name}; a machine is about to be asked for.`,
      advice: null,
    };
  }
  if (hold.until !== null) {
    const again = hold.until <= now ? "now" : relative(hold.until, now);
    return {
      summary: `Pool ${pool.name} tries again ${again}: ${bareReason(hold.reason)}.`,
      advice: "`mayfly doctor` tests what the provider needs and says how to mend it.",
    };
  }
  const isFull = pool.max > 0;
  return {
    summary: `Pool ${pool.name} has no room for it: ${bareReason(hold.reason)}.`,
    advice: isFull
      ? `It starts when a machine is free; a larger \`max\` of the pool allows more at once.`
      : null,
  };
}

function whyStarted(job: StoredJob, machine: Runner | null, now: number): Answer {
  const since = job.startedAt === null ? "" : `, for ${duration(now - job.startedAt)}`;
  if (machine === null) {
    const where =
      job.runner === null ? "a runner the forge has not named" : `${job.runner}, which is not ours`;
    return { summary: `It runs on ${where}${since}.`, advice: null };
  }
  const { price } = machine;
  const rate =
    price.microUsdPerHour === 0 ? "at no charge" : `at ${formatUsd(price.microUsdPerHour)} an hour`;
  return {
    summary: `It runs on ${machine.name} (${machine.provider}, ${sizeText(machine.size)})${since}, ${rate}.`,
    advice: null,
  };
}

const failedThere: Answer = { summary: "It failed.", advice: "Its log at its forge says more." };
const endings: Readonly<Record<JobOutcome, Answer>> = {
  success: { summary: "It ended well.", advice: null },
  failure: { summary: "Its command failed.", advice: "The end of its log says more." },
  cancelled: { summary: "It was cancelled.", advice: null },
  skipped: { summary: "The forge skipped it.", advice: null },
  timed_out: {
    summary: "It ran longer than it may.",
    advice: "Give it more time (`timeoutSeconds`, or the pool's job deadline), or find what hangs.",
  },
  lost: {
    summary: "Its machine vanished under it.",
    advice: "Run it again. If it happens often, look at the provider: memory, spot prices, host.",
  },
  refused: {
    summary: "No pool may take it.",
    advice: "Change its labels, or what the pools offer and accept.",
  },
  error: { summary: "It could not be prepared.", advice: "Look at its revision and its tree." },
};

/** Of a job whose machine was taken back: what becomes of it, unless it is left as it ended. */
function againInstead(rerun: Rerun | null): Answer | null {
  if (rerun === null || rerun.state === "given_up") return null;
  const taken = "Its machine was taken back under it";
  if (rerun.state === "done") {
    return { summary: `${taken}, and it was run again as ${rerun.again}.`, advice: null };
  }
  const next = rerun.state === "asked" ? "waits to be run again" : "is to be run again";
  return { summary: `${taken}, and it ${next}: ${sentence(rerun.reason)}`, advice: null };
}

function whyEnded(job: StoredJob): Answer {
  if (job.outcome === null)
    return { summary: "It ended; the forge did not say how.", advice: null };
  // A forge keeps its jobs' own logs, and says of their end no more than this.
  const isForges = job.outcome === "failure" && job.work === null;
  const { summary, advice } = isForges ? failedThere : endings[job.outcome];
  const exit = job.exitCode === null || job.exitCode === 0 ? "" : ` Exit status ${job.exitCode}.`;
  // Why it got its pool is not why it ended.
  const tellsWhy = ["lost", "refused", "error", "timed_out", "cancelled"].includes(job.outcome);
  const reason = tellsWhy ? ` ${sentence(job.reason)}` : "";
  return { summary: `${summary}${exit}${reason}`, advice };
}

const machineWords: Readonly<Record<RunnerState, string>> = {
  claimed: "It is about to be asked for",
  asked: "It is starting",
  up: "It is up and waits for its job",
  started: "It runs its job",
  ended: "It is being removed",
  gone: "It is gone",
};

function whyMachine(fleet: Fleet, machine: Runner, now: number): Answer {
  const money = costSoFar(machine, now);
  const lived = duration((machine.goneAt ?? now) - machine.claimedAt);
  const paid =
    machine.price.microUsdPerHour === 0 ? "" : ` It cost ${formatUsd(money)} in ${lived}.`;
  const tries = machine.tries === 0 ? "" : ` ${counted(machine.tries, "call")} failed so far.`;
  const isOrphan = fleet.providers().every(({ name }) => name !== machine.provider);
  return {
    summary: `${machineWords[machine.state]}: ${machine.reason}.${tries}${paid}`,
    advice:
      isOrphan && machine.state !== "gone"
        ? `Provider ${machine.provider}, which made it, is no longer configured: nothing removes it until it is again.`
        : null,
  };
}

const factWords: Readonly<Record<FactKind, string>> = {
  seen: "seen",
  placed: "placed",
  refused: "refused",
  claimed: "claimed",
  asked: "asked for",
  up: "up",
  started: "started",
  ended: "ended",
  gone: "gone",
  failed: "failed",
  swept: "swept away",
  noted: "noted",
};

function told({ at, kind, reason }: Fact, who: string): { at: number; text: string } {
  return { at, text: `${who}${factWords[kind]}: ${reason}` };
}

/** A hold's reason without the count of those it holds, for a job that is one of them. */
export function bareReason(reason: string): string {
  return reason.replace(/^[0-9]+ jobs? waiting: /, "");
}

function sentence(text: string): string {
  const trimmed = text.trim();
  if (trimmed === "") return "";
  return /[.!?]$/.test(trimmed) ? trimmed : `${trimmed}.`;
}
