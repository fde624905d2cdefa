import { MayflyError } from "../../domain/errors.ts";
import { quote } from "../../domain/words.ts";
import { BoundedMap } from "../bounded-map.ts";
import type { ForgeLog } from "../context.ts";
import type { Registration } from "../forge.ts";
import type { Address } from "./address.ts";
import type { Client } from "./client.ts";
import {
  anything,
  groupsPage,
  jitConfig,
  runnerItem,
  runnersPage,
  type RunnerItem,
} from "./shapes.ts";

export interface RunnersParts {
  readonly address: Address;
  readonly client: Client;
  /** Null: the default one. */
  readonly group: string | null;
  /** What the names of our runners begin with. */
  readonly prefix: string;
  readonly now: () => number;
  readonly log: ForgeLog;
}

/** GitHub's own limit is 10,000 a group. */
const pagesMax = 100;
const groupKeptMs = 10 * 60_000;
const defaultGroup = 1;
const nameTries = 3;

/** Runners at GitHub: one just-in-time configuration for each job. */
export class Runners {
  readonly #parts: RunnersParts;
  /** Ids by name: what a runner is removed by. */
  readonly #ids = new BoundedMap<string, number>(20_000);
  #group: { readonly id: number; readonly at: number } | null = null;

  constructor(parts: RunnersParts) {
    this.#parts = parts;
  }

  /**
   * Registers a runner for one job under this name, which GitHub then shows offline, and returns its
   * just-in-time configuration. It lives for five minutes and makes one runner. A name that is taken
   * is one that we gave before: what has it is removed. Throws `conflict` if that has a job.
   */
  async register(name: string, labels: readonly string[], signal: AbortSignal): Promise<string> {
    const { client, address } = this.#parts;
    const group = await this.#groupId(signal);
    for (let tries = 1; ; tries++) {
      try {
        const made = await client.ask(
          `POST ${address.path}/actions/runners/generate-jitconfig`,
          { name, runner_group_id: group, labels, work_folder: "_work" },
          { what: `registering a runner for ${address.told}`, schema: jitConfig, signal },
        );
        this.#ids.set(name, made.runner.id);
        return made.encoded_jit_config;
      } catch (error) {
        const isTaken = error instanceof MayflyError && error.code === "conflict";
        if (!isTaken || tries >= nameTries) throw error;
        this.#ids.delete(name);
        if ((await this.remove(name, signal)) === "busy") {
          throw new MayflyError("conflict", `a runner named ${quote(name)} works on a job`);
        }
      }
    }
  }

  /** Those of our names. Lists shift while runners come and go: what is not in one may be there. */
  async list(signal: AbortSignal): Promise<readonly Registration[]> {
    const { client, address, prefix } = this.#parts;
    const all = await client.pages(
      `GET ${address.path}/actions/runners`,
      {},
      { what: `listing runners of ${address.told}`, schema: runnersPage, signal, isKept: true },
      (page) => page.runners,
      pagesMax,
    );
    const ours = new Map(all.filter(({ name }) => name.startsWith(prefix)).map((r) => [r.id, r]));
    return [...ours.values()].map(({ id, name, status }) => {
      this.#ids.set(name, id);
      return { name, id: String(id), online: status === "online" };
    });
  }

  /**
   * `busy` when GitHub says that it has a job, by its flag or by refusing. That it is not busy says
   * little: the flag is late by a minute, and even a removal may succeed under a job that has begun.
   */
  async remove(name: string, signal: AbortSignal): Promise<"gone" | "busy"> {
    const runner = await this.#find(name, signal);
    if (runner === null) return "gone";
    if (runner.busy) return "busy";
    const { client, address } = this.#parts;
    try {
      await client.ask(
        `DELETE ${address.path}/actions/runners/{runner_id}`,
        { runner_id: runner.id },
        { what: `removing the runner ${quote(name)}`, schema: anything, signal },
      );
    } catch (error) {
      if (!(error instanceof MayflyError)) throw error;
      // "Runner … is currently running a job and cannot be deleted."
      if (error.code === "invalid") return "busy";
      if (error.code !== "not_found") throw error;
    }
    this.#ids.delete(name);
    return "gone";
  }

  /** By its id where that is known: a list's pages may just miss it. */
  async #find(name: string, signal: AbortSignal): Promise<RunnerItem | null> {
    const { client, address } = this.#parts;
    const what = `looking for the runner ${quote(name)}`;
    const id = this.#ids.get(name);
    if (id !== undefined) {
      try {
        const route = `GET ${address.path}/actions/runners/{runner_id}`;
        const runner = await client.ask(
          route,
          { runner_id: id },
          { what, schema: runnerItem, signal },
        );
        if (runner.name === name) return runner;
      } catch (error) {
        if (!(error instanceof MayflyError) || error.code !== "not_found") throw error;
        this.#ids.delete(name);
      }
    }
    // Servers that do not know `name` yet answer with all.
    const found = await client.pages(
      `GET ${address.path}/actions/runners`,
      { name },
      { what, schema: runnersPage, signal },
      (page) => page.runners,
      pagesMax,
    );
    return found.find((runner) => runner.name === name) ?? null;
  }

  async #groupId(signal: AbortSignal): Promise<number> {
    const { client, address, group, now, log } = this.#parts;
    // A repository has the default one only.
    if (group === null || address.scope.kind === "repository") return defaultGroup;
    if (this.#group !== null && now() - this.#group.at < groupKeptMs) return this.#group.id;
    const groups = await client.pages(
      `GET ${address.path}/actions/runner-groups`,
      {},
      { what: `listing runner groups of ${address.told}`, schema: groupsPage, signal },
      (page) => page.runner_groups,
      pagesMax,
    );
    const found = groups.find(({ name }) => name.toLowerCase() === group.toLowerCase());
    if (found === undefined) {
      throw new MayflyError("not_found", `there is no runner group ${quote(group)}`, {
        where: "group",
        hint: `The ones there are: ${groups.map(({ name }) => quote(name)).join(", ")}.`,
      });
    }
    if (this.#group === null && !found.allows_public_repositories) {
      // GitHub refuses nothing then: the jobs wait for ever.
      log.warn({ group }, "the runner group gets no jobs of public repositories");
    }
    this.#group = { id: found.id, at: now() };
    return found.id;
  }
}
