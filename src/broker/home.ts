import type { JobSighting } from "../domain/job.ts";
import type { Forge } from "../forges/forge.ts";
import { loansOf } from "../store/loans.ts";
import type { Store } from "../store/store.ts";
import { asLoan, isFor, isSameName, type Terms } from "./terms.ts";

/**
 * The configured forge as it was, but that jobs for which a machine was lent are told as the loan's
 * own: so they make no second machine, and what the forge tells of them is known of the loan at once.
 * A job with such a label that nothing was lent for stays the forge's, and shows that no pool takes
 * it.
 */
export function home(inner: Forge, store: Store, terms: Terms): Forge {
  const told = async (sightings: readonly JobSighting[]): Promise<readonly JobSighting[]> => {
    const ours: JobSighting[] = [];
    for (const sighting of sightings) {
      const translated = await translate(inner, store, terms, sighting);
      if (translated !== null) ours.push(translated);
    }
    return ours;
  };
  const own: Partial<Forge> = {
    verify: async (request) => {
      const events = await inner.verify(request);
      const sightings = await told(events.sightings);
      const note = sightings.length < events.sightings.length ? "a machine was lent for it" : "";
      return { sightings, note: events.note === "" ? note : events.note };
    },
    poll: async (signal) => told(await inner.poll(signal)),
    ...(inner.listen === undefined
      ? {}
      : {
          listen: (tell, signal) =>
            inner.listen?.(async (sightings) => tell(await told(sightings)), signal) ??
            Promise.resolve(),
        }),
  };
  // Whatever else a forge can do, it does as before.
  return new Proxy(inner, {
    get: (forge, key) => {
      if (Object.hasOwn(own, key)) return own[key as keyof Forge];
      const value: unknown = Reflect.get(forge, key, forge);
      return typeof value === "function" ? (value.bind(forge) as unknown) : value;
    },
  });
}

/** Null: its loan says already that a job waits for the machine. */
async function translate(
  inner: Forge,
  store: Store,
  { template, settings }: Terms,
  job: JobSighting,
): Promise<JobSighting | null> {
  const label = job.labels.find((asked) => template.parse(asked.toLowerCase()) !== null);
  const repository = settings.repositories.find((name) => isSameName(name, job.repository));
  if (label === undefined || repository === undefined) return job;
  const loans = await loansOf(store.db, label.toLowerCase());
  const fitting = loans.filter((loan) => loan.repository === repository && isFor(inner, loan, job));
  // One that was over before the job began is not what the job has.
  const loan =
    fitting.find(({ overAt }) => overAt === null) ??
    fitting.find(({ overAt }) => overAt !== null && (job.startedAt ?? Infinity) <= overAt);
  if (loan === undefined) return job;
  return job.state === "waiting" ? null : asLoan(loan, job);
}
