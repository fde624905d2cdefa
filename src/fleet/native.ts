import type { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";
import { jobId, type JobSighting, type NativeSource, type NativeWork } from "../domain/job.ts";
import { checkWork, targetCommand } from "../domain/native-work.ts";
import type { Pool } from "../domain/pool.ts";
import { clip, listed } from "../domain/words.ts";
import { addFacts } from "../store/facts.ts";
import { artifactContent, askCancellation, deafJobs, endJob } from "../store/guest.ts";
import { findJob, type StoredJob } from "../store/questions.ts";
import { endRunner } from "../store/runners.ts";
import type { Store } from "../store/store.ts";
import type { Intake, NativeDesk, Submission } from "./api.ts";
import type { Clock } from "./clock.ts";
import { randomWord } from "./names.ts";
import type { ContentFolder, Sources } from "./native-files.ts";

/** A guest takes 10 s from SIGTERM to SIGKILL and then reports; one that does not is given up. */
const cancelGraceMs = 30_000;
const idLetters = 10;
const nameLengthMax = 200;
const repositoryLengthMax = 300;

export interface NativeDeskParts {
  readonly store: Store;
  readonly clock: Clock;
  /** Uniform in [0, 1). */
  readonly chance: () => number;
  readonly intake: Intake;
  readonly pools: readonly Pool[];
  /** The name of the native forge. */
  readonly forge: string;
  readonly sources: Sources;
  readonly artifacts: ContentFolder;
}

/** What a person may ask of native jobs. */
export class Native implements NativeDesk {
  readonly #parts: NativeDeskParts;

  constructor(parts: NativeDeskParts) {
    this.#parts = parts;
  }

  async submit(submission: Submission): Promise<StoredJob> {
    const { store, intake, forge, chance, clock } = this.#parts;
    const work = this.#workOf(submission);
    checkWork(work);
    const labels = this.#labelsOf(submission);
    const { source, note } = await this.#prepare(work.source);
    const sighting: JobSighting = {
      forge,
      externalId: randomWord(chance, idLetters),
      attempt: 1,
      state: "waiting",
      outcome: null,
      name: nameOf(submission, work),
      repository: clip(submission.repository, repositoryLengthMax),
      labels,
      trust: submission.trust,
      url: null,
      runner: null,
      queuedAt: clock.now(),
      startedAt: null,
      endedAt: null,
      work: { ...work, source },
    };
    await intake.record([sighting]);
    const id = jobId(forge, sighting.externalId, 1);
    if (note !== null) {
      await store.write((tx) =>
        addFacts(tx, [{ subjectKind: "job", subject: id, kind: "noted", reason: note }]),
      );
    }
    return this.#find(id);
  }

  keepTree(archive: Readable): Promise<{ sha256: string; bytes: number }> {
    return this.#parts.sources.keep(archive);
  }

  async cancel(id: string, reason: string): Promise<StoredJob> {
    const { store, clock } = this.#parts;
    const why = clip(reason, 500);
    await store.write(async (tx) => {
      const job = await findJob(tx.db, id);
      if (job === null) throw noJob(id);
      if (job.work === null) {
        throw new MayflyError("conflict", `${id} is a job of forge ${job.forge}`, {
          hint: "Cancel it there: a forge's job is over when its forge says so.",
        });
      }
      if (job.state === "ended") {
        throw new MayflyError("conflict", `${id} is over already: ${job.outcome}`);
      }
      if (job.state === "waiting") {
        if (await endJob(tx, job, { outcome: "cancelled", exitCode: null, reason: why })) return;
        throw new MayflyError("conflict", `${id} is just being started; try again`);
      }
      await askCancellation(tx, id, why);
      const asked = `its end was asked for: ${why}`;
      await addFacts(tx, [{ subjectKind: "job", subject: id, kind: "noted", reason: asked }]);
    });
    clock.after(cancelGraceMs, () => void this.endDeaf().catch(() => {}));
    return this.#find(id);
  }

  async openArtifact(job: string, path: string): Promise<Readable> {
    const sha256 = await artifactContent(this.#parts.store.db, job, path);
    if (sha256 === null) throw new MayflyError("not_found", `job ${job} has no artifact ${path}`);
    return this.#parts.artifacts.open(sha256);
  }

  /** Ends the jobs whose guests were asked to end them and did not. Also part of the sweep. */
  async endDeaf(): Promise<void> {
    const { store, clock } = this.#parts;
    const deaf = await deafJobs(store.db, clock.now() - cancelGraceMs);
    for (const { job, reason } of deaf) {
      await store.write(async (tx) => {
        const why = `${reason}; its guest did not answer`;
        await endJob(tx, job, { outcome: "cancelled", exitCode: null, reason: why });
        if (job.runner !== null) await endRunner(tx, job.runner, why);
      });
    }
  }

  #workOf(submission: Submission): NativeWork {
    const { command, target, source, environment, timeoutSeconds, artifacts } = submission;
    if (target !== null && command.length > 0) {
      throw new MayflyError("invalid", "give a command or a target, not both", { where: "target" });
    }
    return {
      source,
      command: command.length > 0 ? command : targetCommand(target ?? "test"),
      environment,
      // The pool's own limit holds in any case.
      timeoutSeconds: timeoutSeconds ?? this.#longestSeconds(),
      artifacts,
    };
  }

  #longestSeconds(): number {
    const own = this.#parts.pools.filter(({ forge }) => forge === this.#parts.forge);
    return Math.max(3600, ...own.map(({ jobDeadlineSeconds }) => jobDeadlineSeconds));
  }

  /** A pool offers its own name as a label, so asking for the pool is asking for that label. */
  #labelsOf({ labels, pool }: Submission): readonly string[] {
    if (pool === null) return labels;
    const own = this.#parts.pools.filter(({ forge }) => forge === this.#parts.forge);
    if (own.some(({ name }) => name === pool)) return [...new Set([...labels, pool])];
    throw new MayflyError("not_found", `there is no pool ${JSON.stringify(pool)} for native jobs`, {
      where: "pool",
      hint:
        own.length === 0 ? "There is none." : `There is ${listed(own.map(({ name }) => name))}.`,
    });
  }

  async #prepare(source: NativeSource): Promise<{ source: NativeSource; note: string | null }> {
    const { sources } = this.#parts;
    if (source.kind === "git") {
      const { sha256, commit, tree, bytes } = await sources.fetch(source.url, source.revision);
      const note = `${source.revision} is commit ${commit}, tree ${tree}; ${bytes} bytes kept`;
      return { source: { kind: "tree", sha256, commit }, note };
    }
    if (source.kind === "tree" && !(await sources.has(source.sha256))) {
      throw new MayflyError("not_found", `no tree ${source.sha256} is kept here`, {
        where: "source.sha256",
        hint: "Upload it first; a tree that no job needs is forgotten after a day.",
      });
    }
    return { source, note: null };
  }

  async #find(id: string): Promise<StoredJob> {
    const job = await findJob(this.#parts.store.db, id);
    if (job === null) throw noJob(id);
    return job;
  }
}

function nameOf({ name, target }: Submission, { command }: NativeWork): string {
  const words = command[0] === "mayfly-target" ? (target ?? "test") : command.join(" ");
  // One line, and nothing that would move a terminal's cursor.
  return clip((name ?? words).replaceAll(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " "), nameLengthMax);
}

function noJob(id: string): MayflyError {
  return new MayflyError("not_found", `there is no job ${clip(JSON.stringify(id), 80)}`);
}
