/*
 * What is run in a machine, one step after the other. A script yields steps and is given back how
 * each went, so that it can decide the next by what the machine said.
 */

/** One command in the machine's work folder. */
export interface Step {
  /** What people see. Null: nothing is shown, and the script gets what was printed. */
  readonly title: string | null;
  readonly command: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** It may run so long, within what the whole run has left. */
  readonly timeoutSeconds?: number;
  /** It is ended when it prints nothing for so long. */
  readonly silenceSeconds?: number;
  readonly artifacts?: StepArtifacts;
  /** Finds the status that its own exit status stands for, in the end of what it printed. */
  readonly trueStatus?: (stderr: string) => number | null;
}

/** Files brought out of the machine once the step's command is over. */
export interface StepArtifacts {
  /** The folder they are in; null: the work folder. */
  readonly root: string | null;
  readonly patterns: readonly string[];
  /** `memory`: the script wants to read them itself; they are cut at a few megabytes. */
  readonly to: "folder" | "memory";
}

/**
 * How a step ended. `lost`: its machine vanished. `timed_out`: after its own time or the run's.
 * `error`: the machine could not run it.
 */
export interface StepResult {
  readonly how: "exited" | "timed_out" | "cancelled" | "error" | "lost";
  /** Null unless it exited. */
  readonly exitCode: number | null;
  readonly detail: string;
  /** All that was printed by a step without a title, else the last of it; bounded. */
  readonly stdout: string;
  readonly stderr: string;
  /** What was asked to `memory`, by path. */
  readonly files: ReadonlyMap<string, Buffer>;
}

/** How a whole run ended. */
export interface Verdict {
  readonly how: StepResult["how"];
  readonly exitCode: number | null;
  readonly detail: string;
  /** Nothing that was to follow in other machines makes sense any more. */
  readonly endsAll?: true;
}

export type Script = AsyncGenerator<Step, Verdict, StepResult>;

export function isGood(result: StepResult | Verdict): boolean {
  return result.how === "exited" && result.exitCode === 0;
}

export function verdictOf({ how, exitCode, detail }: StepResult): Verdict {
  return { how, exitCode, detail };
}

/** One command and nothing else; `artifacts` are patterns below the work folder. */
export async function* commandScript(
  title: string | null,
  command: readonly string[],
  patterns: readonly string[],
): Script {
  const artifacts = { root: null, patterns, to: "folder" } as const;
  return verdictOf(yield { title, command, ...(patterns.length === 0 ? {} : { artifacts }) });
}
