import { CommanderError } from "commander";
import { MayflyError } from "../domain/errors.ts";
import { exit, exitOfError } from "./exit.ts";
import { version } from "./places.ts";
import { program } from "./program.ts";
import { painter } from "./terminal.ts";

/*
 * The entry: parses, runs one command, and turns whatever it throws into words and a status.
 */

// Whoever reads us has gone: nothing is left to be said, and no reason for a stack trace.
for (const output of [process.stdout, process.stderr]) {
  output.on("error", (error: NodeJS.ErrnoException) => {
    process.exit(error.code === "EPIPE" ? exit.brokenPipe : exit.internal);
  });
}

const noFolder = new MayflyError("not_found", "the current folder is no longer there", {
  hint: "Change to another one: cd",
});

/** What the system may lack at any moment, whatever we do: no bug of ours. */
const lacks: Readonly<Record<string, readonly [what: string, hint: string]>> = {
  ENOSPC: ["the disk is full", "Make room on it, then start again."],
  EDQUOT: ["the quota of the disk is used up", "Make room on it, then start again."],
  EROFS: ["the disk is read-only", "Mount it for writing: `dmesg` may say why it is not."],
  EIO: ["the disk failed", "Look at it: `dmesg` may say more."],
  EMFILE: ["too many files are open", "Allow this process more: `ulimit -n 4096`."],
  ENFILE: ["too many files are open on this machine", "End what opens them."],
  ENOMEM: ["there is no memory left", "End something, then start again."],
};

let status: number = exit.ok;
const root = program(version, (ended) => (status = ended));
root.exitOverride();
for (const command of [...root.commands, ...root.commands.flatMap(({ commands }) => commands)]) {
  command.exitOverride().copyInheritedSettings(root);
}

try {
  await root.parseAsync();
} catch (error) {
  status = explain(error);
}
await ended(process.stdout);
process.exit(status);

function explain(thrown: unknown): number {
  const error =
    (thrown as NodeJS.ErrnoException | undefined)?.syscall === "uv_cwd"
      ? noFolder
      : (troubleOfSystem(thrown) ?? thrown);
  if (error instanceof CommanderError) return error.exitCode === 0 ? exit.ok : exit.usage;
  const isJson = process.argv.includes("--json");
  if (process.argv.includes("--debug") || !(error instanceof MayflyError)) {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
  }
  if (!(error instanceof MayflyError)) {
    process.stderr.write(
      "mayfly: this is a bug in Mayfly; please report it with the lines above\n",
    );
    return exit.internal;
  }
  const { code, message, where, hint } = error;
  if (isJson) {
    process.stderr.write(`${JSON.stringify({ error: { code, detail: message, where, hint } })}\n`);
    return exitOfError(error);
  }
  const paint = painter(process.stderr);
  if (error.name === "ConfigError") {
    // As compilers write them: an editor finds its way by these.
    process.stderr.write(`${message}\n`);
    return exitOfError(error);
  }
  const place = where === undefined || message.includes(where) ? "" : `${where}: `;
  process.stderr.write(`${paint("red", "mayfly:")} ${place}${message}\n`);
  if (hint !== undefined) process.stderr.write(`${paint("dim", "      →")} ${hint}\n`);
  return exitOfError(error);
}

function troubleOfSystem(thrown: unknown): MayflyError | null {
  const { code = "", path, message } = (thrown ?? {}) as Partial<NodeJS.ErrnoException>;
  const [what, hint] = lacks[code] ?? [];
  if (what === undefined || hint === undefined) return null;
  const where = path === undefined ? {} : { where: path };
  return new MayflyError("unavailable", `${what} (${message})`, { hint, ...where });
}

/** What was printed is with its reader before we go. */
function ended(output: NodeJS.WriteStream): Promise<void> {
  return new Promise((resolve) => output.write("", () => resolve()));
}
