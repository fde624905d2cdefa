import { readFileSync } from "node:fs";
import { MayflyError } from "../../domain/errors.ts";
import type { CommonFlags } from "../program.ts";
import type { PlaceFlags } from "../setting.ts";
import type { Prompter } from "./prompter.ts";

export interface InitFlags extends CommonFlags, PlaceFlags {
  readonly url?: string;
  readonly scope?: string;
  readonly token?: string;
  readonly name?: string;
  readonly label?: readonly string[];
  readonly accept?: readonly string[];
  /** Where the forge reaches this Mayfly. */
  readonly reach?: string;
  /** A GitHub App that may also have jobs run again. */
  readonly rerun?: boolean;
  /** Where a GitHub App is made and installed: the page's own port. */
  readonly port?: string;
}

export interface Asking {
  readonly prompter: Prompter;
  readonly flags: InitFlags;
  readonly reach: string | null;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

/** What a kind of forge needs to be asked. */
export interface Setup {
  /** What a pool offers that nobody said otherwise of. */
  readonly labels: readonly string[];
  ask(asking: Asking): Promise<Asked>;
}

export interface Answers {
  /** The forge's name in the configuration. */
  readonly name: string;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
}

export interface Asked {
  /** What Mayfly calls it, by `askName`. */
  readonly name: string;
  /** Options as they are written, but for secrets. */
  readonly options: Readonly<Record<string, unknown>>;
  readonly secrets: Readonly<Record<string, string>>;
  /** What is done at the forge once the rest is known to work. */
  finish(answers: Answers): Promise<void>;
}

/** The forge's name in the configuration, which is its pool's too; `like`: what it is about. */
export function askName({ prompter, flags }: Asking, like: string): Promise<string> {
  const question = {
    flag: "--name",
    text: "What Mayfly calls it",
    fallback: nameFrom(like),
    check: (text: string) =>
      text === nameFrom(text) ? null : "it may have letters a to z, digits and dashes, at most 30",
  };
  return prompter.ask(question, flags.name);
}

/** The nearest name that a configuration allows. */
function nameFrom(text: string): string {
  const plain = text.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  return plain.slice(0, 30).replaceAll(/^-+|-+$/g, "") || "forge";
}

/** A secret by its place (`env:NAME`, `file:PATH`), or typed without being shown; never an argument. */
export async function secretFrom(
  prompter: Prompter,
  place: string | undefined,
  question: { readonly flag: string; readonly text: string },
): Promise<string> {
  if (place === undefined) {
    return prompter.ask({ ...question, fallback: null, isSecret: true }, undefined);
  }
  const value = read(place, question.flag).trim();
  if (value !== "") return value;
  throw new MayflyError("invalid", "there is nothing in it", { where: question.flag });
}

function read(place: string, flag: string): string {
  const [, kind, name = ""] = /^(env|file):(.+)$/s.exec(place) ?? [];
  if (kind === "env") return process.env[name] ?? "";
  if (kind === undefined) {
    throw new MayflyError("invalid", "a secret is no argument: others could read it", {
      where: flag,
      hint: "Write env:NAME or file:PATH, or leave it out and type it.",
    });
  }
  try {
    return readFileSync(name, "utf8");
  } catch (error) {
    throw new MayflyError("invalid", `it cannot be read: ${(error as Error).message}`, {
      where: flag,
    });
  }
}
