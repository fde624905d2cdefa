import type { Config } from "../config/config.ts";
import { brokerForge, type BrokerSettings } from "../domain/broker.ts";
import { MayflyError } from "../domain/errors.ts";
import { counted, listed } from "../domain/words.ts";
import { forges } from "../forges/registry.ts";
import { guestProgram } from "../guest/program.ts";
import type { Check } from "../providers/provider.ts";

const checkMs = 60_000;

/** What a broker lends, and to whom, as one line. */
export function brokerText({ pools, repositories, label }: BrokerSettings): string {
  const lent = Object.entries(pools).map(([architecture, pool]) => `${architecture} from ${pool}`);
  return `lends ${listed(lent)} to ${listed(repositories)} under ${label}`;
}

/** Looks up the runs of each repository that may borrow, as every order does; changes nothing. */
export async function checkBroker(config: Config): Promise<readonly Check[]> {
  const { broker } = config;
  if (broker === null) return [];
  const checks: Check[] = [];
  for (const repository of broker.repositories) checks.push(await checkRuns(config, repository));
  const strict = config.pools.filter(
    ({ forge, accept }) => forge === brokerForge && !accept.includes("fork"),
  );
  if (strict.length > 0) {
    const detail = `pull requests from forks get nothing of ${listed(strict.map(({ name }) => name))}`;
    const mend = 'to lend to them, give these pools "accept: [trusted, fork]"';
    checks.push({ name: "forks", ok: false, detail, mend, isOptional: true });
  }
  return checks;
}

async function checkRuns({ broker, forges: parts }: Config, repository: string): Promise<Check> {
  const name = repository;
  const part = parts.find((each) => each.name === broker?.forge);
  const open = part === undefined ? undefined : forges[part.kind]?.open;
  try {
    const log = { info: () => {}, warn: () => {} };
    // An installation's name that has no runners, so that a check meddles with none.
    const context = { name: part?.name ?? "", installation: "nobody", now: Date.now, log };
    const forge = await open?.(part?.options, { ...context, guestProgram });
    const runs = await forge?.runs?.open(repository, AbortSignal.timeout(checkMs));
    if (runs === undefined) throw new Error("its forge cannot look up runs");
    return { name, ok: true, detail: `${counted(runs.length, "run")} in progress`, mend: null };
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    const mend = error instanceof MayflyError ? (error.hint ?? null) : null;
    return { name, ok: false, detail, mend };
  }
}
