import { setTimeout as sleep } from "node:timers/promises";
import { ProviderError } from "../../domain/errors.ts";
import { lastWords } from "../child.ts";
import { isOurs } from "../names.ts";
import type { Machine, ProviderContext } from "../provider.ts";
import type { Row } from "./answers.ts";
import { createdLabel, diskLabel, labelsOf } from "./arguments.ts";
import type { Podman } from "./engine.ts";
import { failureOf } from "./outcome.ts";

export interface Container {
  readonly id: string;
  readonly name: string;
  readonly state: Machine["state"];
  readonly exitCode: number | null;
  readonly createdAt: number;
  /** What it has written to its own disk; null unless asked for. */
  readonly writtenBytes: number | null;
  /** What it may write; null for one that is not limited by us. */
  readonly diskBytes: number | null;
}

const states: Readonly<Record<string, Machine["state"]>> = {
  configured: "booting",
  created: "booting",
  initialized: "booting",
  exited: "ended",
  stopped: "ended",
  removing: "ended",
  dead: "ended",
};

/** How long `remove` waits for a container to go before it leaves it at that, ms. */
const patienceMs = 10_000;

/** This provider's containers, known by their labels. */
export class Containers {
  readonly #podman: Podman;
  readonly #context: ProviderContext;

  constructor(podman: Podman, context: ProviderContext) {
    this.#podman = podman;
    this.#context = context;
  }

  /** All of them; with `sizes`, which walks their files, what each has written too. */
  async all(signal: AbortSignal, sizes = false): Promise<Container[]> {
    return this.#list(sizes ? ["--size"] : [], signal);
  }

  async find(name: string, signal: AbortSignal): Promise<Container | null> {
    const found = await this.#list([`--filter=name=^${name}$`], signal);
    return found.find((container) => container.name === name) ?? null;
  }

  /** Starts a container that was made only; one that runs by now is as good. False: it failed. */
  async start({ id }: Container, signal: AbortSignal): Promise<boolean> {
    return (await this.#podman.run(["start", id], signal)).code === 0;
  }

  /**
   * Kills and removes the container of this name with its volumes, if there is one. False while
   * something of it is there still.
   */
  async remove(name: string, signal: AbortSignal): Promise<boolean> {
    const args = ["rm", "--force", "--ignore", "--volumes", "--time=0", name];
    for (let waitedMs = 0; waitedMs < patienceMs; waitedMs += 100) {
      const { code, stderr } = await this.#podman.run(args, signal);
      if (code === 0) return true;
      // Its conmon may be tidying up too; then podman fails over what the other has just removed.
      if (!/busy|in use|no such|cannot remove|removing|unmount|improper/i.test(stderr)) {
        throw failureOf(`${name} could not be removed`, stderr);
      }
      await sleep(100, undefined, { signal });
    }
    return false;
  }

  async kill({ name }: Container, signal: AbortSignal): Promise<void> {
    await this.#podman.run(["kill", name], signal);
  }

  async #list(more: readonly string[], signal: AbortSignal): Promise<Container[]> {
    const labels = labelsOf(this.#context).map((label) => `--filter=label=${label}`);
    const args = ["ps", "--all", "--no-trunc", "--format=json", ...labels, ...more];
    const { code, stdout, stderr } = await this.#podman.run(args, signal);
    if (code !== 0) throw failureOf("podman could not list its containers", stderr);
    const { readRows } = await import("./answers.ts");
    const rows = readRows(stdout);
    if (rows === null) {
      throw new ProviderError(
        "unreachable",
        `podman's list is not understood: ${lastWords(stderr)}`,
      );
    }
    return rows.flatMap((row) => this.#container(row));
  }

  #container(row: Row): Container[] {
    const [name = ""] = row.Names;
    if (!isOurs(this.#context.installation, name)) return [];
    const state = states[row.State] ?? "running";
    const labelled = (label: string): number | null => {
      const number = Number(row.Labels?.[label]);
      return Number.isSafeInteger(number) ? number : null;
    };
    return [
      {
        id: row.Id,
        name,
        state,
        // conmon says -1 for a container that it ended at its deadline.
        exitCode: state === "ended" && row.ExitCode >= 0 ? row.ExitCode : null,
        createdAt: labelled(createdLabel) ?? row.Created * 1000,
        writtenBytes: row.Size?.rwSize ?? null,
        diskBytes: labelled(diskLabel),
      },
    ];
  }
}
