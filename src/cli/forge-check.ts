import type { Part } from "../config/config.ts";
import { MayflyError } from "../domain/errors.ts";
import { counted } from "../domain/words.ts";
import { forges } from "../forges/registry.ts";
import { guestProgram } from "../guest/program.ts";
import type { Check } from "../providers/provider.ts";

const checkMs = 60_000;
/** An installation's name that has no runners, so that a check meddles with none. */
const nobody = "nobody";

/** Asks a forge for its jobs and its runners, which is what serving it begins with; changes nothing. */
export async function checkForge({ name, kind, options }: Part): Promise<readonly Check[]> {
  const known = forges[kind];
  if (known?.open === undefined) return [];
  const signal = AbortSignal.timeout(checkMs);
  const warnings: Check[] = [];
  const warn = (_: object, detail: string): void =>
    void warnings.push({ name: "note", ok: false, detail, mend: null, isOptional: true });
  const log = { info: () => {}, warn };
  const now = (): number => Date.now();
  try {
    const context = { name, installation: nobody, now, log, guestProgram };
    const forge = await known.open(options, context);
    const jobs = await forge.poll(signal);
    await forge.registrations(signal);
    const detail = `it answers; ${counted(jobs.length, "job")} waiting or running`;
    return [{ name: "answer", ok: true, detail, mend: null }, ...warnings];
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    const mend = error instanceof MayflyError ? (error.hint ?? null) : null;
    return [{ name: "answer", ok: false, detail, mend }, ...warnings];
  }
}
