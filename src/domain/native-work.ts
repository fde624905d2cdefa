import { MayflyError } from "./errors.ts";
import type { NativeWork } from "./job.ts";
import { quote } from "./words.ts";

/*
 * What a native job may say. Whoever takes one in, by whatever way, holds it against these rules
 * before it is stored, so that a machine is never made for a job that cannot run.
 */

const wordsMax = 1000;
/** Linux takes 128 KiB in one argument or variable. */
const wordBytesMax = 100 * 1024;
const wordsBytesMax = 512 * 1024;
const variablesMax = 200;
const patternsMax = 100;
const patternLengthMax = 500;
export const artifactBytesMax = 1024 * 1024 * 1024;
export const timeoutSecondsMax = 7 * 24 * 3600;
export const addressLengthMax = 2000;
export const revisionLengthMax = 250;

/**
 * The command of a target: the guest runs it with mk, make or npm, whichever the repository has a
 * file for. Throws `invalid` for a name that one of them could take for an option.
 */
export function targetCommand(target: string): readonly string[] {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,199}$/.test(target)) {
    throw invalid("target", `${quote(target)} is no target's name`, {
      hint: "Letters, digits and _ . : / - are good, and a letter, digit or _ comes first.",
    });
  }
  return ["mayfly-target", target];
}

/** Throws `invalid`, naming the field, for work that could never run. */
export function checkWork(work: NativeWork): void {
  checkCommand(work.command);
  checkEnvironment(work.environment);
  const { timeoutSeconds } = work;
  if (
    !Number.isInteger(timeoutSeconds) ||
    timeoutSeconds < 1 ||
    timeoutSeconds > timeoutSecondsMax
  ) {
    throw invalid("timeoutSeconds", `it must be a whole number from 1 to ${timeoutSecondsMax}`);
  }
  checkArtifacts(work.artifacts);
  checkSource(work);
}

function checkCommand(command: readonly string[]): void {
  if (command.length === 0 || command[0] === "") {
    throw invalid("command", "there is nothing to run");
  }
  if (command.length > wordsMax) throw invalid("command", `it has more than ${wordsMax} words`);
  let total = 0;
  for (const [index, word] of command.entries()) {
    total += checkWord(`command[${index}]`, word);
  }
  if (total > wordsBytesMax) throw invalid("command", `it is longer than ${wordsBytesMax} bytes`);
}

function checkEnvironment(environment: Readonly<Record<string, string>>): void {
  const entries = Object.entries(environment);
  if (entries.length > variablesMax) {
    throw invalid("environment", `it has more than ${variablesMax} variables`);
  }
  let total = 0;
  for (const [name, value] of entries) {
    const where = `environment.${quote(name).slice(1, -1)}`;
    if (!/^[A-Za-z_][A-Za-z0-9_]{0,99}$/.test(name)) {
      throw invalid(where, "it is no variable's name", {
        hint: "Letters, digits and _ are good, and no digit comes first.",
      });
    }
    total += checkWord(where, value);
  }
  if (total > wordsBytesMax) {
    throw invalid("environment", `its values are longer than ${wordsBytesMax} bytes`);
  }
}

/** The bytes of a word that can be handed to a process. */
function checkWord(where: string, word: string): number {
  if (word.includes("\0")) throw invalid(where, "it holds a NUL");
  if (!word.isWellFormed()) throw invalid(where, "it is no well-formed Unicode");
  const bytes = Buffer.byteLength(word);
  if (bytes > wordBytesMax) throw invalid(where, `it is longer than ${wordBytesMax} bytes`);
  return bytes;
}

function checkArtifacts(patterns: readonly string[]): void {
  if (patterns.length > patternsMax) {
    throw invalid("artifacts", `there are more than ${patternsMax} patterns`);
  }
  for (const [index, pattern] of patterns.entries()) {
    const where = `artifacts[${index}]`;
    if (!isInnerPath(pattern, patternLengthMax)) {
      throw invalid(where, `${quote(pattern)} is no path or pattern below the work folder`, {
        hint: `Write it relative, without .., at most ${patternLengthMax} characters: dist/*.tgz.`,
      });
    }
  }
}

/** Whether it names something below a folder, whatever is there: relative, no `..`, printable. */
export function isInnerPath(path: string, lengthMax = 1000): boolean {
  if (path === "" || path.length > lengthMax || !path.isWellFormed()) return false;
  if (path.startsWith("/") || /\p{Cc}/u.test(path)) return false;
  return !path.split("/").includes("..");
}

function checkSource({ source }: NativeWork): void {
  if (source.kind === "git") {
    checkText("source.url", source.url, addressLengthMax);
    checkText("source.revision", source.revision, revisionLengthMax);
  }
  if (source.kind === "tree") {
    if (!/^[0-9a-f]{64}$/.test(source.sha256)) {
      throw invalid("source.sha256", "it is no SHA-256 digest in hexadecimal");
    }
    if (source.commit !== null && !isCommitId(source.commit)) {
      throw invalid("source.commit", "it is no commit's full id");
    }
  }
}

function checkText(where: string, text: string, lengthMax: number): void {
  if (text === "") throw invalid(where, "it is empty");
  if (text.length > lengthMax) {
    throw invalid(where, `it has ${text.length} characters, at most ${lengthMax} are read`);
  }
  if (!text.isWellFormed() || /[\p{Cc}\p{Zl}\p{Zp}]/u.test(text)) {
    throw invalid(where, "it holds a control character");
  }
}

/** A whole SHA-1 or SHA-256 object name. */
export function isCommitId(text: string): boolean {
  return /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/.test(text);
}

function invalid(where: string, message: string, more: { hint?: string } = {}): MayflyError {
  return new MayflyError("invalid", message, { where, ...more });
}
