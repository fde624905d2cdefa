import type { Job, NativeWork } from "../domain/job.ts";
import type { Price } from "../domain/money.ts";
import type { Runner } from "../domain/runner.ts";
import type { Size } from "../domain/size.ts";
import type { JobRow, RunnerRow } from "./schema.ts";

/*
 * Between rows and the domain's words. JSON columns were written by us, so they are trusted to have
 * the shape they were written with.
 */

export function toJob(row: JobRow): Job & { readonly size: Size | null } {
  return {
    id: row.id,
    forge: row.forge,
    externalId: row.external_id,
    attempt: row.attempt,
    name: row.name,
    repository: row.repository,
    labels: JSON.parse(row.labels) as string[],
    labelClass: row.label_class,
    trust: row.trust,
    pool: row.pool,
    size: row.size === null ? null : (JSON.parse(row.size) as Size),
    state: row.state,
    outcome: row.outcome,
    reason: row.reason,
    runner: row.runner,
    url: row.url,
    work: row.work === null ? null : (JSON.parse(row.work) as NativeWork),
    queuedAt: row.queued_at,
    seenAt: row.seen_at,
    startedAt: row.started_at,
    endedAt: row.ended_at,
    exitCode: row.exit_code,
  };
}

export function toRunner(row: RunnerRow): Runner {
  return {
    name: row.name,
    pool: row.pool,
    forge: row.forge,
    provider: row.provider,
    labels: JSON.parse(row.labels) as string[],
    labelClass: row.label_class,
    size: JSON.parse(row.size) as Size,
    price: JSON.parse(row.price) as Price,
    state: row.state,
    reason: row.reason,
    job: row.job,
    claimedAt: row.claimed_at,
    bornAt: row.born_at,
    askedAt: row.asked_at,
    upAt: row.up_at,
    handedAt: row.handed_at,
    startedAt: row.started_at,
    finishedAt: row.finished_at,
    endedAt: row.ended_at,
    goneAt: row.gone_at,
    dueAt: row.due_at,
    tries: row.tries,
    ...(row.on_demand === 1 ? { isOnDemand: true } : {}),
    costMicroUsd: row.cost_micro_usd,
  };
}
