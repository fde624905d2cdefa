import { addFacts } from "../store/facts.ts";
import { logBytes } from "../store/guest.ts";
import { appendLog, runnerLog, type LogFrame } from "../store/logs.ts";
import type { Store } from "../store/store.ts";
import { JobCounts } from "./desk-counts.ts";

/** Output kept of one job; what comes after is taken and dropped. */
const logBytesMax = 256 * 1024 * 1024;
/** A frame costs a row, however few bytes it holds. */
const frameCostBytes = 64;

/** Appends output, within what a job may keep. */
export class LogDesk {
  readonly #store: Store;
  /** Bytes by job or runner, for those heard of since we started. */
  readonly #kept = new JobCounts();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Of a job; or of a forge's runner, whose job's own output is at its forge. */
  async append(
    of: { readonly kind: "job" | "runner"; readonly id: string },
    frames: readonly LogFrame[],
  ): Promise<void> {
    if (frames.length === 0) return;
    const job = of.kind === "job" ? of.id : runnerLog(of.id);
    const before = this.#kept.get(job) ?? (await logBytes(this.#store.db, job));
    const size = frames.reduce((sum, { bytes }) => sum + bytes.length + frameCostBytes, 0);
    const isFull = before + size > logBytesMax;
    // Even what Mayfly itself says has an end: who says more is no guest of ours.
    const kept = !isFull
      ? frames
      : before > 2 * logBytesMax
        ? []
        : frames.filter(({ stream }) => stream === "mayfly");
    await this.#store.write(async (tx) => {
      await appendLog(tx, job, kept);
      if (!isFull || before > logBytesMax) return;
      const reason = `its output beyond ${logBytesMax / 2 ** 20} MiB is not kept`;
      await addFacts(tx, [{ subjectKind: of.kind, subject: of.id, kind: "noted", reason }]);
    });
    this.#kept.set(job, before + size);
  }
}
