import { matchesGlob } from "../../domain/glob.ts";
import type { MayflyError } from "../../domain/errors.ts";
import type { ForgeLog } from "../context.ts";
import { isWithin, type Scope } from "./address.ts";
import type { Client } from "./client.ts";
import { repositoriesPage, type RepositoryItem } from "./shapes.ts";

export interface RepositoriesParts {
  readonly scope: Scope;
  readonly client: Client;
  /** Globs of `owner/name`; none: all. */
  readonly only: readonly string[];
  readonly now: () => number;
  readonly log: ForgeLog;
}

/** The whole list, of which the first page (pushed to last) is asked for in each poll. */
const wholeMs = 10 * 60_000;
/** One that GitHub does not let us see is left alone for so long. */
const lostMs = 30 * 60_000;
const pagesMax = 100;
/** Named by events alone: an enterprise has no list of its repositories. */
const namedMax = 2_000;

/** The repositories whose jobs are looked for, each with when it was pushed to last (ms). */
export class Repositories {
  readonly #parts: RepositoriesParts;
  readonly #listed = new Map<string, number>();
  readonly #lostUntil = new Map<string, number>();
  #wholeAt = Number.NEGATIVE_INFINITY;

  constructor(parts: RepositoriesParts) {
    this.#parts = parts;
    const { scope, only } = parts;
    if (scope.kind === "repository") this.#listed.set(`${scope.owner}/${scope.repository}`, 0);
    if (scope.kind !== "enterprise") return;
    for (const name of only) if (!name.includes("*")) this.#listed.set(name, 0);
  }

  isOurs(fullName: string): boolean {
    const { scope, only } = this.#parts;
    if (!/^[A-Za-z0-9_.-]+\/[A-Za-z0-9_.-]+$/.test(fullName)) return false;
    if (!isWithin(scope, fullName)) return false;
    return only.length === 0 || only.some((pattern) => matchesGlob(pattern, fullName));
  }

  /** An event named it. */
  named(fullName: string): void {
    if (this.#listed.size >= namedMax || this.#listed.has(fullName)) return;
    if (this.isOurs(fullName)) this.#listed.set(fullName, 0);
  }

  /** The list changed at GitHub: have all of it again. */
  changed(): void {
    this.#wholeAt = Number.NEGATIVE_INFINITY;
    this.#lostUntil.clear();
  }

  /** False when it is the only one there is: then its trouble is all of the forge's. */
  lost(fullName: string, error: MayflyError): boolean {
    const { log, now, scope } = this.#parts;
    if (scope.kind === "repository") return false;
    this.#lostUntil.set(fullName, now() + lostMs);
    log.warn({ repository: fullName, hint: error.hint }, `left out for a while: ${error.message}`);
    return true;
  }

  async list(signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const { scope, now } = this.#parts;
    if (scope.kind === "organisation") await this.#refresh(scope.organisation, signal);
    const left = [...this.#listed].filter(([name]) => (this.#lostUntil.get(name) ?? 0) <= now());
    return new Map(left);
  }

  async #refresh(org: string, signal: AbortSignal): Promise<void> {
    const { client, now } = this.#parts;
    const isWhole = now() - this.#wholeAt > wholeMs;
    const items = await client.pages(
      "GET /orgs/{org}/repos",
      { org, sort: "pushed", direction: "desc" },
      {
        what: `listing repositories of ${org}`,
        schema: repositoriesPage,
        signal,
        isKept: true,
      },
      (page) => page,
      isWhole ? pagesMax : 1,
    );
    if (isWhole) {
      this.#listed.clear();
      this.#wholeAt = now();
    }
    for (const item of items) this.#take(item);
  }

  #take({ full_name: name, pushed_at: pushedAt, archived, disabled }: RepositoryItem): void {
    if (archived || disabled || !this.isOurs(name)) this.#listed.delete(name);
    else this.#listed.set(name, pushedAt ?? 0);
  }
}
