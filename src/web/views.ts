import type { z } from "@hono/zod-openapi";
import type { Fact } from "../domain/fact.ts";
import type { NativeSource } from "../domain/job.ts";
import type { PlanAction } from "../domain/planner.ts";
import type { Pool } from "../domain/pool.ts";
import { costOf, type Runner } from "../domain/runner.ts";
import { warmAt } from "../domain/schedule.ts";
import type { ProviderHealth } from "../fleet/api.ts";
import type { Check } from "../providers/provider.ts";
import type { LogFrame } from "../store/logs.ts";
import type { Counts, StoredJob } from "../store/questions.ts";
import type {
  FactSchema,
  JobSchema,
  LogFrameSchema,
  MachineSchema,
  PoolSchema,
  ProviderSchema,
  RunnerSchema,
  SourceSchema,
} from "./schemas.ts";
import { labelsOf, withoutPassword } from "./words.ts";

/* What the store holds, as the API says it. Nothing of a job's environment but its names. */

export type JobView = z.infer<typeof JobSchema>;
export type MachineView = z.infer<typeof MachineSchema>;
export type PoolView = z.infer<typeof PoolSchema>;
export type LogFrameView = z.infer<typeof LogFrameSchema>;

/** `machine`: that of its runner, when it is ours. */
export function jobView(job: StoredJob, machine: Runner | null, now: number): JobView {
  const { work } = job;
  return {
    id: job.id,
    forge: job.forge,
    externalId: job.externalId,
    attempt: job.attempt,
    name: job.name,
    repository: withoutPassword(job.repository),
    labels: [...job.labels],
    trust: job.trust,
    pool: job.pool,
    size: job.size,
    state: job.state,
    outcome: job.outcome,
    exitCode: job.exitCode,
    reason: job.reason,
    machine: job.runner,
    costMicroUsd: machine === null ? null : costSoFar(machine, now),
    url: job.url,
    queuedAt: job.queuedAt,
    seenAt: job.seenAt,
    startedAt: job.startedAt,
    endedAt: job.endedAt,
    work:
      work === null
        ? null
        : {
            source: sourceView(work.source),
            command: [...work.command],
            environmentNames: Object.keys(work.environment).sort(),
            timeoutSeconds: work.timeoutSeconds,
            artifacts: [...work.artifacts],
          },
  };
}

function sourceView(source: NativeSource): z.infer<typeof SourceSchema> {
  return source.kind === "git" ? { ...source, url: withoutPassword(source.url) } : source;
}

export function runnerView(runner: Runner): z.infer<typeof RunnerSchema> {
  return {
    name: runner.name,
    pool: runner.pool,
    forge: runner.forge,
    labels: [...runner.labels],
    state: runner.state,
    reason: runner.reason,
    job: runner.job,
    claimedAt: runner.claimedAt,
    upAt: runner.upAt,
    startedAt: runner.startedAt,
    endedAt: runner.endedAt,
    goneAt: runner.goneAt,
  };
}

export function machineView(runner: Runner, now: number): MachineView {
  return {
    name: runner.name,
    pool: runner.pool,
    provider: runner.provider,
    size: runner.size,
    price: runner.price,
    state: runner.state,
    reason: runner.reason,
    job: runner.job,
    claimedAt: runner.claimedAt,
    askedAt: runner.askedAt,
    upAt: runner.upAt,
    startedAt: runner.startedAt,
    endedAt: runner.endedAt,
    goneAt: runner.goneAt,
    tries: runner.tries,
    costMicroUsd: costSoFar(runner, now),
  };
}

/** By the rule that makes it final. */
export function costSoFar(runner: Runner, now: number): number {
  return runner.state === "gone" ? runner.costMicroUsd : costOf(runner, now);
}

export interface Plan {
  readonly at: number;
  readonly actions: readonly PlanAction[];
}

export function poolView(pool: Pool, counts: Counts, plan: Plan | null, now: number): PoolView {
  return {
    name: pool.name,
    forge: pool.forge,
    provider: pool.provider,
    labels: [...pool.labels],
    size: pool.size,
    maximum: pool.maximum,
    accept: [...pool.accept],
    image: pool.image,
    network: pool.network,
    max: pool.max,
    min: pool.min,
    warm: warmAt(pool, now),
    counts: { ...counts },
    plan: plan === null ? null : { at: plan.at, actions: plan.actions.map(actionView) },
  };
}

function actionView(action: PlanAction): NonNullable<PoolView["plan"]>["actions"][number] {
  return {
    kind: action.kind,
    labels: action.labelClass === null ? null : [...labelsOf(action.labelClass)],
    count: action.count,
    until: action.kind === "hold" ? action.until : null,
    reason: action.reason,
  };
}

export function providerView(
  health: ProviderHealth,
  checks: readonly Check[],
): z.infer<typeof ProviderSchema> {
  const { capabilities } = health;
  return {
    name: health.name,
    architectures: [...capabilities.architectures],
    maximum: capabilities.maximum,
    accepts: [...capabilities.accepts],
    labels: [...capabilities.labels],
    backOff: health.backOff === null ? null : { ...health.backOff },
    listedAt: health.listedAt,
    checks: checks.map((check) => ({ ...check })),
  };
}

export function factView(fact: Fact): z.infer<typeof FactSchema> {
  return { ...fact };
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Nothing is lost: bytes that are no UTF-8 by themselves (a cut character) go as base64. */
export function frameView({ seq, at, stream, bytes }: LogFrame): LogFrameView {
  try {
    return { seq, at, stream, text: utf8.decode(bytes) };
  } catch {
    return { seq, at, stream, base64: Buffer.from(bytes).toString("base64") };
  }
}
