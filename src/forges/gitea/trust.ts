import type { TrustClass } from "../../domain/trust.ts";
import { repositoryPath } from "../actions-scope.ts";
import { AskedOnce } from "../asked-once.ts";
import type { ForgeContext } from "../context.ts";
import { Permitted } from "../permitted.ts";
import type { Rest } from "../rest.ts";
import { pullAnswer, runAnswer } from "./answers.ts";

const runsMax = 10_000;

/**
 * Whose code a run executes. A job does not say it, its run does: by its event and its ref. What
 * cannot be told counts as a fork's.
 */
export class RunTrust {
  readonly #rest: Rest;
  /** A run's source never changes; repositories may be renamed, so they are part of the key. */
  readonly #known = new AskedOnce<string, TrustClass>(runsMax);

  readonly #permitted: Permitted;

  constructor(rest: Rest, context: Pick<ForgeContext, "name" | "log">) {
    this.#rest = rest;
    this.#permitted = new Permitted(context, "all jobs count as forks'");
  }

  of(repository: string, run: number, signal: AbortSignal): Promise<TrustClass> {
    return this.#known.get(`${repository}#${run}`, () => this.#ask(repository, run, signal));
  }

  async #ask(repository: string, run: number, signal: AbortSignal): Promise<TrustClass> {
    const path = repositoryPath(repository);
    if (path === null) return "fork";
    const told = await this.#permitted.orNull(
      this.#rest.find(`${path}/actions/runs/${run}?exclude_pull_requests=true`, runAnswer, signal),
    );
    // It runs the base's workflow, which may check out the fork's code and names no pull request.
    if (told === null || told.event === "pull_request_target") return "fork";
    const ref = told.path.slice(told.path.lastIndexOf("@") + 1);
    if (/^refs\/(heads|tags)\//.test(ref)) return "trusted";
    const [, pull] = /^refs\/pull\/(\d+)\/(?:head|merge)$/.exec(ref) ?? [];
    if (pull === undefined) return "fork";
    return this.#ofPull(path, pull, signal);
  }

  /**
   * Trusted only when its branch is one of the same repository. The run names the pull request too,
   * but there a deleted fork shows as the base itself.
   */
  async #ofPull(path: string, pull: string, signal: AbortSignal): Promise<TrustClass> {
    const told = await this.#permitted.orNull(
      this.#rest.find(`${path}/pulls/${pull}`, pullAnswer, signal),
    );
    const { head, base } = told ?? {};
    if (!head?.repo || !base?.repo) return "fork";
    // Whoever may read can push to refs/for: such a pull request has no branch's name.
    if (head.label === "") return "fork";
    const isSame = head.repo.id === base.repo.id && head.repo_id === base.repo_id;
    return isSame ? "trusted" : "fork";
  }
}
