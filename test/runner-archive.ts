import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import type { TestContext } from "node:test";
import * as tar from "tar";

/** An archive of a runner's program, at an address of its own. */
export async function runnerArchive(
  t: TestContext,
  folder: string,
  script: string,
): Promise<{ url: string; sha256: string }> {
  const program = join(folder, "program");
  mkdirSync(program);
  writeFileSync(join(program, "run.sh"), script, { mode: 0o755 });
  const file = join(folder, "runner.tar.gz");
  await tar.create({ gzip: true, file, cwd: program }, ["."]);
  const bytes = readFileSync(file);
  const server = createServer((_request, response) => response.end(bytes));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const address = server.address();
  if (typeof address !== "object" || address === null) throw new Error("no address");
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { url: `http://127.0.0.1:${address.port}/runner.tar.gz`, sha256 };
}
