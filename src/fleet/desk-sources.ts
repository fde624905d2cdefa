import type { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";
import type { NativeSource, NativeWork } from "../domain/job.ts";
import { addFacts } from "../store/facts.ts";
import { setSource } from "../store/guest.ts";
import type { Store } from "../store/store.ts";
import { JobCounts } from "./desk-counts.ts";
import type { Sources } from "./native-files.ts";

interface SourcedJob {
  readonly id: string;
  readonly work: NativeWork;
}

type GitSource = Extract<NativeSource, { kind: "git" }>;

/** A source that cannot be fetched so often will not be. */
const triesMax = 3;

/** Hands out jobs' trees, and fetches those that were not fetched when the job came. */
export class SourceDesk {
  readonly #store: Store;
  readonly #sources: Sources;
  readonly #fetching = new Map<string, Promise<string>>();
  readonly #failures = new JobCounts();

  constructor(store: Store, sources: Sources) {
    this.#store = store;
    this.#sources = sources;
  }

  async open(job: SourcedJob): Promise<Readable> {
    const { source } = job.work;
    if (source.kind === "none") throw new MayflyError("not_found", "the job has no source");
    const sha256 = source.kind === "tree" ? source.sha256 : await this.#fetchOnce(job, source);
    try {
      return await this.#sources.open(sha256);
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== "not_found") throw error;
      const why = "replicas must share their folder `sources` (docs/replicas.md)";
      throw new MayflyError("not_found", `this manager has no tree ${sha256}; ${why}`);
    }
  }

  /** Once, whoever asks and however often: a guest whose patience ends asks again. */
  #fetchOnce(job: SourcedJob, source: GitSource): Promise<string> {
    let fetching = this.#fetching.get(job.id);
    if (fetching === undefined) {
      fetching = this.#fetch(job, source).finally(() => this.#fetching.delete(job.id));
      this.#fetching.set(job.id, fetching);
    }
    return fetching;
  }

  async #fetch(job: SourcedJob, { url, revision }: GitSource): Promise<string> {
    try {
      const { sha256, commit, tree } = await this.#sources.fetch(url, revision);
      await this.#store.write(async (tx) => {
        await setSource(tx, job, { kind: "tree", sha256, commit });
        const reason = `${revision} is commit ${commit}, tree ${tree}`;
        await addFacts(tx, [{ subjectKind: "job", subject: job.id, kind: "noted", reason }]);
      });
      return sha256;
    } catch (error) {
      if (!(error instanceof MayflyError) || error.code !== "unavailable") throw error;
      const failures = this.#failures.add(job.id, 1);
      if (failures < triesMax) throw error;
      throw new MayflyError("conflict", `${error.message} (tried ${failures} times)`);
    }
  }
}
