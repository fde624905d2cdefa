import type { MakeGuest } from "./guest-birth.ts";

/** One line an event worth telling the operator. pino fits it. */
export interface ForgeLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What a forge with a server is given to live on. */
export interface ForgeContext {
  /** Its name in the configuration. */
  readonly name: string;
  /** What the names of our runners begin with, before a dash; it never changes. `[a-z0-9]`. */
  readonly installation: string;
  readonly now: () => number;
  readonly log: ForgeLog;
  /** Mayfly's guest, which its machines start with. */
  readonly guestProgram: MakeGuest;
  /** How its server is reached; Node's own unless a test says otherwise. */
  readonly fetch?: typeof globalThis.fetch;
}

/** Whether a runner bears a name that this installation gives: `INSTALLATION-POOL-RANDOM`. */
export function isOurs(runner: string, installation: string): boolean {
  return runner.startsWith(`${installation}-`) && runner.length > installation.length + 1;
}
