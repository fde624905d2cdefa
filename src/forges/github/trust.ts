import type { TrustClass } from "../../domain/trust.ts";
import { BoundedMap } from "../bounded-map.ts";
import type { Client } from "./client.ts";
import { workflowRun, type WorkflowRun } from "./shapes.ts";

/** Runs remembered: the jobs of one run come together. */
const runsMax = 20_000;
/** GitHub waits ten seconds for the answer to an event, of which asking may take these. */
const askMs = 6_000;

/**
 * Whose code a run's jobs are. A job itself does not say; its run names the repository that its code
 * comes from. The same repository: somebody with write access pushed it. Another, or one that is no
 * longer there: a fork, also where `pull_request_target` runs it with more rights.
 */
function trustOf(run: Pick<WorkflowRun, "repository" | "head_repository">): TrustClass {
  return run.head_repository?.id === run.repository.id ? "trusted" : "fork";
}

/** What is known of runs, from polls and `workflow_run` events, or else by asking once a run. */
export class RunTrust {
  readonly #client: Client;
  readonly #known = new BoundedMap<string, TrustClass>(runsMax);
  readonly #asking = new Map<string, Promise<TrustClass>>();

  constructor(client: Client) {
    this.#client = client;
  }

  learn(run: WorkflowRun): TrustClass {
    const trust = trustOf(run);
    this.#known.set(String(run.id), trust);
    return trust;
  }

  /** What is known without asking; `fork` if nothing is. */
  known(runId: number): TrustClass {
    return this.#known.get(String(runId)) ?? "fork";
  }

  /** Throws `MayflyError` when it cannot be had. */
  async find(repository: string, runId: number): Promise<TrustClass> {
    const key = String(runId);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    let asking = this.#asking.get(key);
    if (asking === undefined) {
      asking = this.#ask(repository, runId).finally(() => this.#asking.delete(key));
      this.#asking.set(key, asking);
    }
    return asking;
  }

  async #ask(fullName: string, runId: number): Promise<TrustClass> {
    const [owner, repo] = fullName.split("/");
    const run = await this.#client.ask(
      "GET /repos/{owner}/{repo}/actions/runs/{run_id}",
      { owner, repo, run_id: runId },
      {
        what: `asking whose code run ${runId} of ${fullName} is`,
        schema: workflowRun,
        signal: AbortSignal.timeout(askMs),
      },
    );
    return this.learn(run);
  }
}
