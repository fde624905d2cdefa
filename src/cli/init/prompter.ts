import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { MayflyError } from "../../domain/errors.ts";

export interface Question {
  /** The flag that answers it, for those who are not asked. */
  readonly flag: string;
  readonly text: string;
  /** What an empty answer means; null: it has to be answered. */
  readonly fallback: string | null;
  /** It is not shown while it is typed. */
  readonly isSecret?: boolean;
  /** What is wrong with an answer; null: nothing. */
  readonly check?: (answer: string) => string | null;
}

/** Gets answers: from flags, or from a person at a terminal. */
export interface Prompter {
  /** `given`: by its flag. Throws `invalid` when it is wrong, or when nobody can be asked. */
  ask(question: Question, given: string | undefined): Promise<string>;
}

const triesMax = 5;

/** Asks on standard error, so that standard output holds the result alone. */
export class Terminal implements Prompter {
  readonly #input: NodeJS.ReadStream;
  readonly #output: NodeJS.WriteStream;

  constructor(input: NodeJS.ReadStream, output: NodeJS.WriteStream) {
    this.#input = input;
    this.#output = output;
  }

  async ask(question: Question, given: string | undefined): Promise<string> {
    const { flag, fallback, check } = question;
    if (given !== undefined) {
      const fault = check?.(given) ?? null;
      if (fault !== null) throw new MayflyError("invalid", fault, { where: flag });
      return given;
    }
    if (!this.#input.isTTY) {
      if (fallback !== null) return fallback;
      throw new MayflyError("invalid", "it is needed, and there is nobody to ask", { where: flag });
    }
    for (let tries = 0; tries < triesMax; tries++) {
      const answer = (await this.#read(question)).trim() || fallback;
      const fault = answer === null ? "this has to be answered" : (check?.(answer) ?? null);
      if (answer !== null && fault === null) return answer;
      this.#output.write(`  ${fault}\n`);
    }
    throw new MayflyError("invalid", "there was no answer that makes sense", { where: flag });
  }

  async #read({ text, fallback, isSecret = false }: Question): Promise<string> {
    const shown = new Shown(this.#output);
    const lines = createInterface({ input: this.#input, output: shown, terminal: true });
    const stop = new AbortController();
    lines.once("SIGINT", () => stop.abort());
    lines.once("close", () => stop.abort());
    try {
      const offer = fallback === null || fallback === "" ? "" : ` [${fallback}]`;
      const asked = lines.question(`${text}${offer}: `, { signal: stop.signal });
      shown.isMuted = isSecret;
      return await asked;
    } catch {
      throw new MayflyError("conflict", "nothing was set up", { hint: "Begin again at any time." });
    } finally {
      lines.close();
      if (isSecret) this.#output.write("\n");
    }
  }
}

/** What the line editor writes, once the question is out not a letter of a secret. */
class Shown extends Writable {
  isMuted = false;
  readonly #output: NodeJS.WriteStream;

  constructor(output: NodeJS.WriteStream) {
    super();
    this.#output = output;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    if (!this.isMuted) this.#output.write(chunk);
    done();
  }
}
