import { MayflyError } from "../domain/errors.ts";
import { listed, quote } from "../domain/words.ts";
import type { JobView, MachineView } from "../web/views.ts";
import type { Client } from "./client.ts";

/** Jobs, and machines, among which a shortened id is looked for: the newest. */
const lookedAt = 500;

/** The job whose id is `given`, or begins with it. Throws `not_found`, or `invalid` when several do. */
export async function findJob(client: Client, given: string): Promise<JobView> {
  try {
    return await client.get<JobView>(jobPath(given));
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  const { jobs } = await client.get<{ jobs: JobView[] }>(`/v1/jobs?limit=${lookedAt}`);
  const id = choose(
    given,
    jobs.map(({ id }) => id),
    "job",
  );
  return jobs.find((job) => job.id === id) as JobView;
}

/** The full id of a job or a machine that `given` names. */
export async function findSubject(client: Client, given: string): Promise<string> {
  const [{ jobs }, { machines }] = await Promise.all([
    client.get<{ jobs: JobView[] }>(`/v1/jobs?limit=${lookedAt}`),
    client.get<{ machines: MachineView[] }>(`/v1/machines?limit=${lookedAt}`),
  ]);
  const names = [...jobs.map(({ id }) => id), ...machines.map(({ name }) => name)];
  return choose(given, names, "job or machine");
}

export function jobPath(id: string): string {
  return `/v1/jobs/${encodeURIComponent(id)}`;
}

export function isNotFound(error: unknown): boolean {
  return error instanceof MayflyError && error.code === "not_found";
}

/**
 * The one of `ids` that `given` means: all of it, its beginning, or the beginning of what follows a
 * dash in it (`native-k3f9` may be called `k3f`).
 */
export function choose(given: string, ids: readonly string[], what: string): string {
  if (ids.includes(given)) return given;
  const begins = ids.filter((id) => id.startsWith(given) || id.includes(`-${given}`));
  const [id, ...others] = given === "" ? [] : begins;
  if (id === undefined) {
    throw new MayflyError("not_found", `there is no ${what} ${quote(given)}`, {
      where: "ID",
      hint: "`mayfly jobs` and `mayfly machines --all` list them; the first letters of an id are enough.",
    });
  }
  if (others.length === 0) return id;
  throw new MayflyError("invalid", `${quote(given)} may mean ${listed(begins, 4)}`, {
    where: "ID",
    hint: "Give more of it.",
  });
}
