import { MayflyError } from "../domain/errors.ts";
import type { ShellLink, TerminalSize } from "../executor/door.ts";
import { write } from "./terminal.ts";

/** Ctrl-], which telnet and container managers take for leaving as well. */
const leaveKey = 0x1d;
const leaveTimes = 3;

/** Throws `invalid` where nobody could type. */
export function needsTerminal(where: string): void {
  if (process.stdin.isTTY && process.stdout.isTTY) return;
  throw new MayflyError("invalid", "a shell needs a terminal", {
    where,
    hint: "Give a command instead: mayfly run -- sh -c '…'.",
  });
}

/**
 * Joins this terminal and a machine's shell until the shell ends, `signal` is aborted or the person
 * types Ctrl-] three times (`hasLeft`). The shell's exit status is null where it did not end itself.
 */
export async function useShell(
  link: ShellLink,
  signal: AbortSignal,
): Promise<{ exitCode: number | null; hasLeft: boolean }> {
  const { stdin, stdout } = process;
  let leaving = 0;
  const onKeys = (keys: Buffer): void => {
    for (const key of keys) leaving = key === leaveKey ? leaving + 1 : 0;
    if (leaving >= leaveTimes) link.close();
    else link.type(keys);
  };
  const onSize = (): void => link.resize(sizeOf(stdout));
  const leave = (): void => link.close();
  signal.addEventListener("abort", leave, { once: true });
  if (signal.aborted) leave();
  stdin.setRawMode(true);
  stdin.on("data", onKeys).resume();
  stdout.on("resize", onSize);
  link.begin(sizeOf(stdout), process.env["TERM"] ?? "dumb");
  try {
    const exitCode = await link.run((bytes) => write(stdout, bytes).catch(() => link.close()));
    return { exitCode, hasLeft: signal.aborted || leaving >= leaveTimes };
  } finally {
    signal.removeEventListener("abort", leave);
    stdin.off("data", onKeys).pause();
    stdin.setRawMode(false);
    stdout.off("resize", onSize);
  }
}

function sizeOf({ columns, rows }: { columns?: number; rows?: number }): TerminalSize {
  return { columns: columns ?? 80, rows: rows ?? 24 };
}
