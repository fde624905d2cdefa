import { createHash } from "node:crypto";
import { appendFile, mkdir, open, readFile, rm, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import type { ImageCloud } from "./image-cloud.ts";

/** EBS's direct API knows no other size. */
export const blockBytes = 512 * 1024;
/** So many blocks are under way at once, and in memory. */
const atOnce = 16;
/** After its last block EBS takes its time. */
const sealedWithinMs = 30 * 60_000;

/** A block that is not all zero, with the SHA-256 of its bytes in base64. */
export interface Block {
  readonly index: number;
  readonly checksum: string;
}

export interface Upload {
  /** A raw disk, whole GiB. */
  readonly path: string;
  readonly snapshot: string;
  /** A folder where it is noted what was sent, for one that goes on after an interruption. */
  readonly notes: string;
}

/**
 * Sends a disk's blocks into a pending snapshot, all but the zero ones, and seals it. What a notes
 * file of an interrupted upload has is not sent again. `progress` is told how many blocks of how
 * many are there. Throws `ProviderError`; then the snapshot stays pending, to be gone on with.
 */
export async function upload(
  cloud: ImageCloud,
  { path, snapshot, notes }: Upload,
  progress: (sent: number, all: number) => void,
): Promise<void> {
  const notesFile = join(notes, snapshot);
  await mkdir(notes, { recursive: true, mode: 0o700 });
  const file = await open(path);
  try {
    const blocks = await blocksOf(file);
    const noted = new Set((await readFile(notesFile, "utf8").catch(() => "")).split("\n"));
    const missing = blocks.filter((block) => !noted.has(noteOf(block)));
    let sent = blocks.length - missing.length;
    progress(sent, blocks.length);
    const queue = missing.values();
    let isOver = false;
    const send = async (): Promise<void> => {
      const buffer = Buffer.alloc(blockBytes);
      for (const block of queue) {
        if (isOver) return;
        await readBlock(file, block.index, buffer);
        if (sha256(buffer) !== block.checksum) {
          throw new ProviderError("invalid", `${path} changed while it was sent`);
        }
        await cloud.put(snapshot, block.index, buffer, block.checksum);
        // With a line's end before it, half a line that a kill left harms no other.
        await appendFile(notesFile, `\n${noteOf(block)}`, { mode: 0o600 });
        progress(++sent, blocks.length);
      }
    };
    const senders = Array.from({ length: atOnce }, () =>
      send().catch((error: unknown) => {
        isOver = true;
        throw error;
      }),
    );
    const ended = await Promise.allSettled(senders);
    for (const end of ended) if (end.status === "rejected") throw end.reason;
    await seal(cloud, snapshot, blocks);
    await rm(notesFile, { force: true });
  } finally {
    await file.close();
  }
}

/** Two may go on with the same snapshot: what counts is that it is whole in the end. */
async function seal(cloud: ImageCloud, snapshot: string, blocks: readonly Block[]): Promise<void> {
  const state = async (): Promise<string | undefined> =>
    (await cloud.snapshots(null)).find(({ id }) => id === snapshot)?.state;
  const whole = createHash("sha256");
  for (const { checksum } of blocks) whole.update(Buffer.from(checksum, "base64"));
  try {
    await cloud.complete(snapshot, blocks.length, whole.digest("base64"));
  } catch (error) {
    // The answer may have been lost after the work was done.
    if ((await state()) !== "completed") throw error;
  }
  await cloud.until("sealing the snapshot", sealedWithinMs, async () => {
    const now = await state();
    if (now === "error") {
      throw new ProviderError("invalid", `${snapshot} failed: EBS has not what was sent`);
    }
    return now === "completed" ? now : null;
  });
}

function noteOf({ index, checksum }: Block): string {
  return `${index} ${checksum}`;
}

/** The blocks of a disk that are not all zero, in their order. */
async function blocksOf(file: FileHandle): Promise<Block[]> {
  const { size } = await file.stat();
  const blocks: Block[] = [];
  const buffer = Buffer.alloc(blockBytes);
  const zeros = Buffer.alloc(blockBytes);
  for (let index = 0; index * blockBytes < size; index++) {
    await readBlock(file, index, buffer);
    if (!buffer.equals(zeros)) blocks.push({ index, checksum: sha256(buffer) });
  }
  return blocks;
}

/** The last may end before the block does; zeros are behind it. */
async function readBlock(file: FileHandle, index: number, buffer: Buffer): Promise<void> {
  let filled = 0;
  while (filled < blockBytes) {
    const at = index * blockBytes + filled;
    const { bytesRead } = await file.read(buffer, filled, blockBytes - filled, at);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  buffer.fill(0, filled);
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("base64");
}
