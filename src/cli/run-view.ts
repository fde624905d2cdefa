import type { TestCase } from "../executor/junit.ts";
import type { Step, StepResult } from "../executor/steps.ts";
import { counted } from "../domain/words.ts";
import type { Frame } from "../guest/wire.ts";
import { duration } from "../web/words.ts";
import { exit } from "./exit.ts";
import { clean, painter, StatusLine, write, type Output } from "./terminal.ts";

/** What of the guest's own remarks is news; the rest we say in our own words. */
const news = /^(ending it: |artifact |only the first |cannot run )/;
const casesShownMax = 2_000;
/** What a shell says of SIGKILL, which is what the kernel sends when memory runs out. */
const killedStatus = 137;

/** What a person sees of a run: the machine's output, and beside it on standard error our words. */
export class RunView {
  readonly #stdout: Output;
  readonly #status = new StatusLine(process.stderr);
  readonly #paint = painter(process.stderr);
  #isGone = false;
  #isLineOpen = false;
  #told = "";

  /** `onGone`: nobody reads us any more, so there is no reason to go on. */
  constructor(isJson: boolean, onGone: () => void) {
    this.#stdout = isJson ? process.stderr : process.stdout;
    for (const output of [process.stdout, process.stderr]) {
      // Else the command would end at once, and leave its machine.
      output.removeAllListeners("error");
      output.on("error", () => {
        this.#isGone = true;
        onGone();
      });
    }
  }

  /** The status to leave with when our reader has gone; null: it is there. */
  get goneStatus(): number | null {
    return this.#isGone ? exit.brokenPipe : null;
  }

  /** What is under way before there is output: on a terminal one live line, in a pipe a line each. */
  progress(line: string): void {
    if (this.#status.isLive) this.#status.show(`mayfly: ${clean(line)}`);
    else this.say(line);
  }

  say(line: string): void {
    this.clear();
    if (this.#isGone) return;
    process.stderr.write(`${this.#paint("dim", `mayfly: ${clean(line)}`)}\n`);
  }

  warn(line: string): void {
    this.clear();
    if (this.#isGone) return;
    process.stderr.write(`${this.#paint("yellow", "mayfly:")} ${clean(line)}\n`);
  }

  /** Ends a live line, or one that the machine left open on this terminal. */
  clear(): void {
    this.#status.clear();
    if (this.#isLineOpen && process.stderr.isTTY) process.stderr.write("\n");
    this.#isLineOpen = false;
  }

  async show(step: Step, { stream, bytes }: Frame): Promise<void> {
    if (this.#isGone) return;
    if (stream === "mayfly") {
      const text = Buffer.from(bytes).toString("utf8");
      // Several may have come together.
      for (const line of text.split("\n")) if (news.test(line)) this.say(line);
      return;
    }
    if (step.title === null) return;
    this.#status.clear();
    this.#isLineOpen = bytes.at(-1) !== 0x0a;
    await write(stream === "stdout" ? this.#stdout : process.stderr, bytes).catch(() => {});
  }

  stepBegins({ title }: Step): void {
    if (title === null) return;
    this.#status.clear();
    if (title !== "") this.say(`${title} …`);
  }

  stepEnds({ title }: Step, { how, exitCode, detail }: StepResult, tookMs: number): void {
    this.#told = detail;
    if (title === null) return;
    const time = duration(tookMs);
    const what = title === "" ? "it" : title;
    if (how !== "exited") {
      this.say(`${what} ${endings[how]} after ${time}${detail === "" ? "" : `: ${detail}`}`);
      return;
    }
    this.say(`${what} ended with status ${exitCode} after ${time}`);
    if (exitCode === killedStatus) this.say("it was killed; it may need more --memory");
  }

  /** Why a run ended as it did, unless its last step has told it. */
  reason(detail: string): void {
    if (detail !== "" && detail !== this.#told) this.warn(detail);
  }

  /** A report's cases, those that passed on a line each too. */
  cases(cases: readonly TestCase[] | null): void {
    if (cases === null) return this.warn("/test.xml is no JUnit report");
    for (const one of cases.slice(0, casesShownMax)) this.#case(one);
    if (cases.length > casesShownMax) this.say(`… ${cases.length - casesShownMax} more`);
    const count = (outcome: TestCase["outcome"]): number =>
      cases.filter((one) => one.outcome === outcome).length;
    const parts = [`${count("passed")} passed`, `${count("failed")} failed`];
    if (count("error") > 0) parts.push(counted(count("error"), "error"));
    if (count("skipped") > 0) parts.push(`${count("skipped")} skipped`);
    this.say(`${counted(cases.length, "test")}: ${parts.join(", ")}`);
  }

  #case({ name, suite, outcome, seconds, message }: TestCase): void {
    this.clear();
    if (this.#isGone) return;
    const { sign, tint } = signs[outcome];
    const time = seconds === null ? "" : this.#paint("dim", ` ${duration(seconds * 1000)}`);
    const whole = suite === "" ? name : `${suite}: ${name}`;
    const why = message === "" ? "" : `\n    ${clean(message)}`;
    process.stderr.write(`  ${this.#paint(tint, sign)} ${clean(whole)}${time}${why}\n`);
  }
}

const endings = {
  timed_out: "ran out of time",
  cancelled: "was ended",
  error: "could not be run",
  lost: "was lost with its machine",
} as const;

const signs = {
  passed: { sign: "✔", tint: "green" },
  failed: { sign: "✘", tint: "red" },
  error: { sign: "✘", tint: "red" },
  skipped: { sign: "-", tint: "dim" },
} as const;
