import { z } from "zod";
import { MayflyError } from "../../../domain/errors.ts";
import { quote } from "../../../domain/words.ts";
import { ServiceRefusal, type ScaleSetService } from "./service.ts";
import {
  acquired,
  jitConfig,
  message,
  oneScaleSet,
  runnerGroups,
  scaleSets,
  session,
  type Message,
  type ScaleSet,
  type Session,
} from "./shapes.ts";

export interface ScaleSetSettings {
  readonly name: string;
  /** More labels that jobs ask for it by. */
  readonly labels: readonly string[];
  readonly capacity: number;
  /** Null: the default runner group. */
  readonly group: string | null;
  /** Who listens, in GitHub's own pages. */
  readonly owner: string;
}

const base = "_apis/runtime/runnerscalesets";
const defaultGroup = 1;
const anything = z.unknown();

/** One scale set at the service: its session, its queue, and its runners' configurations. */
export class ScaleSetClient {
  readonly #service: ScaleSetService;
  readonly #settings: ScaleSetSettings;
  #set: ScaleSet | null = null;

  constructor(service: ScaleSetService, settings: ScaleSetSettings) {
    this.#service = service;
    this.#settings = settings;
  }

  /** The scale set of this name, made if there is none. */
  async ensured(signal: AbortSignal): Promise<ScaleSet> {
    if (this.#set !== null) return this.#set;
    const { name, labels } = this.#settings;
    const group = await this.#groupId(signal);
    const query = new URLSearchParams({ runnerGroupId: String(group), name });
    const what = `looking for the scale set ${quote(name)}`;
    const found = await this.#service.call("GET", `${base}?${query.toString()}`, {
      what,
      schema: scaleSets,
      signal,
    });
    const known = found.value.find((each) => each.name.toLowerCase() === name.toLowerCase());
    this.#set =
      known ??
      (await this.#service.call("POST", base, {
        what: `making the scale set ${quote(name)}`,
        schema: oneScaleSet,
        signal,
        body: {
          name,
          runnerGroupId: group,
          labels: [...new Set([name, ...labels])].map((each) => ({ name: each, type: "System" })),
          RunnerSetting: { disableUpdate: true },
        },
      }));
    return this.#set;
  }

  async open(signal: AbortSignal): Promise<Session> {
    const { id } = await this.ensured(signal);
    return this.#service.call("POST", `${base}/${id}/sessions`, {
      what: "opening a session of the scale set",
      schema: session,
      signal,
      body: { ownerName: this.#settings.owner },
    });
  }

  /** A new token of its queue, perhaps at another address. */
  async refreshed({ sessionId }: Session, signal: AbortSignal): Promise<Session> {
    const { id } = await this.ensured(signal);
    return this.#service.call("PATCH", `${base}/${id}/sessions/${sessionId}`, {
      what: "refreshing the scale set's session",
      schema: session,
      signal,
    });
  }

  async close({ sessionId }: Session, signal: AbortSignal): Promise<void> {
    const { id } = await this.ensured(signal);
    const what = "closing the scale set's session";
    const path = `${base}/${id}/sessions/${sessionId}`;
    await this.#service.call("DELETE", path, { what, schema: anything, signal });
  }

  /** The next message after `last` (0: any), or null when none came for 50 s. */
  async next(of: Session, last: number, signal: AbortSignal): Promise<Message | null> {
    const url = new URL(of.messageQueueUrl);
    if (last > 0) url.searchParams.set("lastMessageId", String(last));
    const headers = { "x-scalesetmaxcapacity": String(this.#settings.capacity) };
    return this.#service.queue("GET", url, headers, {
      what: "listening to the scale set's queue",
      schema: message,
      signal,
      bearer: of.messageQueueAccessToken,
    });
  }

  /** What is not acknowledged comes again. */
  async acknowledge(of: Session, messageId: number, signal: AbortSignal): Promise<void> {
    const url = new URL(of.messageQueueUrl);
    url.pathname = `${url.pathname.replace(/\/+$/, "")}/${messageId}`;
    await this.#service.queue(
      "DELETE",
      url,
      {},
      {
        what: "acknowledging a message of the scale set's queue",
        schema: anything,
        signal,
        bearer: of.messageQueueAccessToken,
      },
    );
  }

  /** Takes jobs that are on offer; those that another took meanwhile are left out. */
  async acquire(of: Session, ids: readonly number[], signal: AbortSignal): Promise<void> {
    const { id } = await this.ensured(signal);
    await this.#service.call("POST", `${base}/${id}/acquirejobs`, {
      what: "acquiring jobs of the scale set",
      schema: acquired,
      signal,
      body: ids,
      bearer: of.messageQueueAccessToken,
    });
  }

  /** A runner's configuration. Throws a refusal of kind `AgentExists…` when its name is taken. */
  async jitConfig(name: string, signal: AbortSignal): Promise<string> {
    const { id } = await this.ensured(signal);
    const made = await this.#service.call("POST", `${base}/${id}/generatejitconfig`, {
      what: `registering a runner of the scale set ${quote(this.#settings.name)}`,
      schema: jitConfig,
      signal,
      body: { name, workFolder: "_work" },
    });
    return made.encodedJITConfig;
  }

  /** It may have been made anew under another id. */
  forget(): void {
    this.#set = null;
  }

  async #groupId(signal: AbortSignal): Promise<number> {
    const { group } = this.#settings;
    if (group === null) return defaultGroup;
    const query = new URLSearchParams({ groupName: group });
    const found = await this.#service.call(
      "GET",
      `_apis/runtime/runnergroups/?${query.toString()}`,
      {
        what: `looking for the runner group ${quote(group)}`,
        schema: runnerGroups,
        signal,
      },
    );
    const [first] = found.value;
    if (first !== undefined) return first.id;
    throw new MayflyError("not_found", `there is no runner group ${quote(group)}`, {
      where: "group",
    });
  }
}

/** Whether the service refused for this reason: the name of an exception, or a part of it. */
export function isRefusal(error: unknown, kind: string): boolean {
  return error instanceof ServiceRefusal && error.kind.includes(kind);
}

export function isUnauthorized(error: unknown): boolean {
  return error instanceof ServiceRefusal && error.status === 401;
}
