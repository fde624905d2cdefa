import { createHash } from "node:crypto";
import { MayflyError } from "../../domain/errors.ts";
import type { JobSighting } from "../../domain/job.ts";
import type { Program } from "../../domain/program.ts";
import { native } from "../../domain/label-rules.ts";
import type { Runner } from "../../domain/runner.ts";
import type { Forge, ForgeEvents, ForgeRequest, MintContext, Registration } from "../forge.ts";
import { mintGuest, type MakeGuest } from "../guest-birth.ts";
import { checkSignature } from "./signature.ts";
import { parseEvent, toSighting } from "./submission.ts";

/** What the store knows of guests: a native forge has no server to ask. */
export interface Ledger {
  /** Runners of this forge whose guests hold a session. */
  guests(forge: string): Promise<readonly string[]>;
  /** Takes claim and session from a runner, unless it has a job that is not over. */
  remove(runner: string): Promise<"gone" | "busy">;
}

export interface NativeForgeParts {
  readonly name: string;
  /** What signs events; null: there are none, and jobs come by the API and the command line. */
  readonly secret: string | null;
  readonly ledger: Ledger;
  readonly guestProgram: MakeGuest;
  readonly now: () => number;
}

/** Repositories without a forge: jobs are submitted, and the store itself is the truth. */
export class NativeForge implements Forge {
  readonly name: string;
  readonly #parts: NativeForgeParts;

  constructor(parts: NativeForgeParts) {
    this.name = parts.name;
    this.#parts = parts;
  }

  match(asked: readonly string[], offered: readonly string[]): boolean {
    return native(asked, offered);
  }

  verify(request: ForgeRequest): ForgeEvents {
    const { secret } = this.#parts;
    if (secret === null) {
      throw new MayflyError("unauthenticated", `forge ${this.name} takes no events`, {
        hint: "Give it a `secret` to sign them with, or submit by POST /v1/jobs.",
      });
    }
    checkSignature(request, secret);
    const delivery = this.#delivery(request);
    const submissions = parseEvent(request.body);
    const sightings = submissions.map((submission, index): JobSighting => {
      const at = this.#parts.now();
      try {
        const externalId = idOf(delivery, index);
        return toSighting(submission, { forge: this.name, externalId, at });
      } catch (error) {
        if (!(error instanceof MayflyError) || submissions.length === 1) throw error;
        const where = `jobs[${index}].${error.where ?? ""}`.replace(/\.$/, "");
        const more = error.hint === undefined ? {} : { hint: error.hint };
        throw new MayflyError(error.code, error.message, { where, ...more });
      }
    });
    return { sightings, note: sightings.length === 0 ? "there are no jobs in it" : "" };
  }

  poll(): Promise<readonly JobSighting[]> {
    return Promise.resolve([]);
  }

  mint(_runner: Runner, context: MintContext): Promise<Program> {
    return Promise.resolve(mintGuest(this.#parts.guestProgram, context));
  }

  async registrations(): Promise<readonly Registration[]> {
    const names = await this.#parts.ledger.guests(this.name);
    return names.map((name) => ({ name, id: name, online: true }));
  }

  remove(name: string): Promise<"gone" | "busy"> {
    return this.#parts.ledger.remove(name);
  }

  /** The sender's name for this event, from which its jobs get theirs: again, nothing is new. */
  #delivery({ headers }: ForgeRequest): string {
    const delivery = headers["x-mayfly-delivery"] ?? "";
    if (/^[\x21-\x7e]{1,200}$/.test(delivery)) return delivery;
    throw new MayflyError("invalid", "it must be 1 to 200 visible ASCII characters", {
      where: "X-Mayfly-Delivery",
      hint: "Name each event, such as by a UUID; sent again under its name, it changes nothing.",
    });
  }
}

/** A plain delivery is its first job's name: the sender finds the job by it. */
function idOf(delivery: string, index: number): string {
  const isPlain = /^[a-z0-9][a-z0-9-]{0,39}$/.test(delivery);
  if (isPlain) return index === 0 ? delivery : `${delivery}_${index}`;
  return createHash("sha256").update(`${delivery}\n${index}`).digest("hex").slice(0, 20);
}
