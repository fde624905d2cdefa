import type { ProviderHealth } from "../fleet/api.ts";
import type { Check } from "../providers/provider.ts";

const keptMs = 60_000;
const deadlineMs = 10_000;

/** Providers' own checks, asked for at most once a minute and only when somebody looks. */
export class Checks {
  readonly #now: () => number;
  readonly #kept = new Map<
    string,
    { readonly at: number; readonly checks: Promise<readonly Check[]> }
  >();

  constructor(now: () => number) {
    this.#now = now;
  }

  of(provider: ProviderHealth): Promise<readonly Check[]> {
    const known = this.#kept.get(provider.name);
    if (known !== undefined && this.#now() - known.at < keptMs) return known.checks;
    const checks = ask(provider);
    this.#kept.set(provider.name, { at: this.#now(), checks });
    return checks;
  }
}

async function ask(provider: ProviderHealth): Promise<readonly Check[]> {
  const signal = AbortSignal.timeout(deadlineMs);
  const late = new Promise<never>((_, reject) => {
    const refuse = (): void => reject(new Error(`no answer within ${deadlineMs / 1000} s`));
    signal.addEventListener("abort", refuse, { once: true });
  });
  const checks = provider.check(signal);
  checks.catch(() => {});
  try {
    return await Promise.race([checks, late]);
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return [{ name: "checks", ok: false, detail, mend: "Run `mayfly doctor` on the server." }];
  }
}
