import type { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";
import { artifactBytesMax, isInnerPath } from "../domain/native-work.ts";
import { artifactTotals } from "../store/guest.ts";
import { addArtifact, type Artifact } from "../store/logs.ts";
import type { Store } from "../store/store.ts";
import type { ContentFolder } from "./native-files.ts";

const artifactsBytesMax = 4 * artifactBytesMax;
const artifactsMax = 1000;
/** A guest sends one after the other, but what was cut may not be noticed at once. */
const atOnce = 4;

/** Takes in artifacts, within what a job may keep. */
export class ArtifactDesk {
  readonly #store: Store;
  readonly #folder: ContentFolder;
  readonly #underWay = new Map<string, number>();

  constructor(store: Store, folder: ContentFolder) {
    this.#store = store;
    this.#folder = folder;
  }

  /** Keeps a job's artifact under its path; the last of a path wins. */
  async keep(job: string, path: string, body: Readable): Promise<Artifact> {
    if (!isInnerPath(path)) {
      throw new MayflyError("invalid", "it is no path below the work folder", { where: "path" });
    }
    const underWay = this.#underWay.get(job) ?? 0;
    if (underWay >= atOnce) {
      throw new MayflyError("too_many", "artifacts of this job are being received already");
    }
    this.#underWay.set(job, underWay + 1);
    try {
      return await this.#keep(job, path, body);
    } finally {
      const left = (this.#underWay.get(job) ?? 1) - 1;
      if (left > 0) this.#underWay.set(job, left);
      else this.#underWay.delete(job);
    }
  }

  async #keep(job: string, path: string, body: Readable): Promise<Artifact> {
    const others = await artifactTotals(this.#store.db, job, path);
    if (others.count >= artifactsMax) {
      throw new MayflyError("too_large", `a job keeps at most ${artifactsMax} artifacts`);
    }
    const room = Math.max(0, Math.min(artifactBytesMax, artifactsBytesMax - others.bytes));
    const { sha256, bytes } = await this.#folder.keep(body, room);
    return this.#store.write(async (tx) => {
      const artifact = { path, size: bytes, sha256, at: tx.now };
      await addArtifact(tx, job, artifact);
      return artifact;
    });
  }
}
