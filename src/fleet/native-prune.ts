import { artifactsAmong, dropArtifacts, dropCancellations, treesInUse } from "../store/guest.ts";
import type { Store } from "../store/store.ts";
import type { ContentFolder, Sources } from "./native-files.ts";

const dayMs = 24 * 3600 * 1000;
/** A tree that no waiting or running job needs is kept this long, for the next submission. */
const treeMs = dayMs;
const artifactMs = 30 * dayMs;
const contentsAtOnce = 500;

export interface PruneParts {
  readonly store: Store;
  readonly sources: Sources;
  readonly artifacts: ContentFolder;
}

/** Removes trees, artifacts and requests that are over. Part of the fleet's housekeeping. */
export async function pruneNative(parts: PruneParts, now: number): Promise<void> {
  const { store, sources } = parts;
  await store.write(async (tx) => {
    await dropCancellations(tx);
    await dropArtifacts(tx, now - artifactMs);
  });
  const inUse = await treesInUse(store.db);
  for await (const tree of sources.olderThan(now - treeMs)) {
    if (!inUse.has(tree)) await sources.remove(tree, now - treeMs);
  }
  await sources.pruneRepositories(now - 7 * dayMs);
  await pruneArtifacts(parts, now);
}

/** What is younger than a day may belong to a job that is just about to say so. */
async function pruneArtifacts({ store, artifacts }: PruneParts, now: number): Promise<void> {
  let batch: string[] = [];
  const sweep = async (): Promise<void> => {
    const needed = await artifactsAmong(store.db, batch);
    for (const content of batch) {
      if (!needed.has(content)) await artifacts.remove(content, now - dayMs);
    }
    batch = [];
  };
  for await (const content of artifacts.olderThan(now - dayMs)) {
    batch.push(content);
    if (batch.length >= contentsAtOnce) await sweep();
  }
  await sweep();
}
