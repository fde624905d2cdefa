import { createHash } from "node:crypto";
import type { Readable } from "node:stream";
import { MayflyError } from "../domain/errors.ts";

const fileBytesMax = 8 * 1024 * 1024;
const filesMax = 100;

/** Takes a small file in for a script to read. Throws `too_large` beyond what is small. */
export async function keepInMemory(
  files: Map<string, Buffer>,
  path: string,
  body: Readable,
): Promise<{ sha256: string; size: number }> {
  if (files.size >= filesMax) {
    throw new MayflyError("too_large", `only ${filesMax} files are read`);
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > fileBytesMax) {
      throw new MayflyError("too_large", `only files up to ${fileBytesMax} bytes are read`);
    }
    chunks.push(chunk);
  }
  const content = Buffer.concat(chunks);
  files.set(path, content);
  return { size, sha256: createHash("sha256").update(content).digest("hex") };
}
