import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { dirname, isAbsolute, join, normalize } from "node:path";
import { Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { MayflyError } from "../domain/errors.ts";
import { counted, quote } from "../domain/words.ts";
import type { Artifact } from "../store/logs.ts";
import { bytesText } from "../web/words.ts";
import { Client } from "./client.ts";
import { exit } from "./exit.ts";
import { findJob, jobPath } from "./find.ts";
import type { ClientFlags } from "./program.ts";
import { table } from "./table.ts";
import { columnsOf, note, painter, print } from "./terminal.ts";

export interface ArtifactsFlags extends ClientFlags {
  readonly to?: string;
}

/** `mayfly artifacts`: lists what a job brought back, or with `--to` fetches all of it. */
export async function run(given: string, flags: ArtifactsFlags): Promise<number> {
  const client = new Client(flags, process.env);
  const { id } = await findJob(client, given);
  const answer = await client.get<{ artifacts: Artifact[] }>(`${jobPath(id)}/artifacts`);
  const { artifacts } = answer;
  if (flags.to !== undefined) {
    for (const artifact of artifacts) {
      const file = await fetchArtifact(client, id, artifact, flags.to);
      if (!flags.json) await print(file);
    }
  }
  if (flags.json) await print(JSON.stringify(answer));
  else if (artifacts.length === 0) note(`${id} has brought back nothing`);
  else if (flags.to !== undefined) note(`${counted(artifacts.length, "artifact")} in ${flags.to}`);
  else await showArtifacts(artifacts);
  return exit.ok;
}

async function showArtifacts(artifacts: readonly Artifact[]): Promise<void> {
  const lines = table(
    artifacts,
    [
      { title: "SIZE", text: ({ size }) => bytesText(size), align: "right" },
      { title: "SHA-256", text: ({ sha256 }) => sha256.slice(0, 12) },
      { title: "PATH", text: ({ path }) => path, flexible: true },
    ],
    columnsOf(process.stdout),
    painter(process.stdout),
  );
  for (const line of lines) await print(line);
}

/** Fetches one into its place below `folder`; it is there whole and as the server has it, or not. */
async function fetchArtifact(
  client: Client,
  job: string,
  { path, sha256 }: Artifact,
  folder: string,
): Promise<string> {
  const file = join(folder, inside(path));
  await mkdir(dirname(file), { recursive: true });
  const escaped = path.split("/").map(encodeURIComponent).join("/");
  const body = await client.download(`${jobPath(job)}/artifacts/${escaped}`);
  const digest = createHash("sha256");
  const partial = `${file}.${process.pid}.part`;
  const counting = new Transform({
    transform: (chunk: Buffer, _, done) => {
      digest.update(chunk);
      done(null, chunk);
    },
  });
  try {
    await pipeline(Readable.from(body), counting, createWriteStream(partial, { flags: "wx" }));
    if (digest.digest("hex") !== sha256) {
      throw new MayflyError("unavailable", `${path} came broken`, { hint: "Fetch it again." });
    }
    await rename(partial, file);
  } finally {
    await rm(partial, { force: true });
  }
  return file;
}

/** The path is a server's word: it must not lead out of the folder. */
function inside(path: string): string {
  const plain = normalize(path);
  if (!isAbsolute(plain) && plain !== ".." && !plain.startsWith("../")) return plain;
  throw new MayflyError("invalid", `the artifact ${quote(path)} would be written elsewhere`);
}
