import type { MakeGuest } from "./guest-birth.ts";

/** What a forge with a server of its own is opened with, besides its options. */
export interface ForgeContext {
  readonly name: string;
  /** What the names of our runners begin with, before a dash. */
  readonly installation: string;
  readonly now: () => number;
  readonly guestProgram: MakeGuest;
  readonly log: ForgeLog;
}

/** The part of a logger that forges use. */
export interface ForgeLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** Whether a runner bears a name that this installation gives: `INSTALLATION-POOL-RANDOM`. */
export function isOurs(runner: string, installation: string): boolean {
  return runner.startsWith(`${installation}-`) && runner.length > installation.length + 1;
}
