import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type { RunnerOrders } from "./forge.ts";

/* Runs orders as a guest does, with programs of a test's making: for tests only. */

export interface ScriptEnd {
  readonly status: number | null;
  readonly output: string;
}

export interface ScriptPlace {
  readonly files: string;
  readonly work: string;
  /** A folder of programs that the script finds. */
  readonly programs: string;
  run(orders: RunnerOrders, environment?: Readonly<Record<string, string>>): Promise<ScriptEnd>;
  program(name: string, script: string): void;
  close(): void;
}

export function scriptPlace(): ScriptPlace {
  const root = mkdtempSync(join(tmpdir(), "mayfly-start-"));
  const [files, work, programs] = [join(root, "files"), join(root, "work"), join(root, "programs")];
  for (const folder of [files, work, programs]) mkdirSync(folder);
  const placed = (word: string): string =>
    word.replaceAll("{files}", files).replaceAll("{work}", work);
  return {
    files,
    work,
    programs,
    program: (name, script) => writeFileSync(join(programs, name), script, { mode: 0o755 }),
    run: async (orders, environment = { MAYFLY_RUNNER_DIR: programs }) => {
      for (const { path, mode, content } of orders.files) {
        mkdirSync(dirname(join(files, path)), { recursive: true });
        writeFileSync(join(files, path), content, { mode });
      }
      const [program = "", ...words] = orders.command.map(placed);
      const declared = Object.entries(orders.environment).map(([k, v]) => [k, placed(v)]);
      const env = {
        PATH: "/usr/bin:/bin",
        HOME: work,
        ...(Object.fromEntries(declared) as Record<string, string>),
        ...environment,
      };
      const child = spawn(program, words, { cwd: work, env, stdio: ["ignore", "pipe", "pipe"] });
      let output = "";
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding("utf8").on("data", (text: string) => (output += text));
      }
      const status = await new Promise<number | null>((resolve, reject) => {
        child.once("error", reject);
        child.once("close", resolve);
      });
      return { status, output };
    },
    close: () => rmSync(root, { recursive: true, force: true }),
  };
}
