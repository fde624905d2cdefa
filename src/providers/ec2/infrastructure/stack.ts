import {
  CloudFormationClient,
  CreateStackCommand,
  DeleteStackCommand,
  DescribeStackEventsCommand,
  DescribeStackResourcesCommand,
  DescribeStacksCommand,
  GetTemplateCommand,
  UpdateStackCommand,
  type Stack as SdkStack,
  type StackEvent as SdkEvent,
} from "@aws-sdk/client-cloudformation";
import { isDeepStrictEqual } from "node:util";
import { MayflyError } from "../../../domain/errors.ts";
import { adviceFor, explained } from "./errors.ts";
import type { Template } from "./cloudformation.ts";
import { defaultStack, stackTag, stackTags, type StackOptions } from "./template.ts";

/*
 * One stack at CloudFormation: what it is, what would change, and putting it up and down, followed
 * event by event to an end that is decided.
 */

/** What happened to one resource. */
export interface StackEvent {
  readonly at: number;
  /** Its name in the template; the stack's own for the whole. */
  readonly resource: string;
  readonly type: string;
  /** `CREATE_IN_PROGRESS`, `DELETE_COMPLETE`. */
  readonly status: string;
  /** Why, where AWS says it. */
  readonly reason: string;
}

export interface Stack {
  readonly id: string;
  readonly status: string;
  readonly outputs: Readonly<Record<string, string>>;
  /** What it was put up with; null: by another program. */
  readonly options: StackOptions | null;
  readonly template: unknown;
}

export interface Change {
  readonly change: "add" | "alter" | "remove";
  readonly resource: string;
  readonly type: string;
}

export interface StackParts {
  readonly region: string;
  readonly name: string;
  readonly now: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Told what happens as it happens. */
  readonly tell: (event: StackEvent) => void;
  /** Ends the following, not the work at AWS. */
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  readonly pollMs: number;
}

/** A page has a hundred or so, and a stack of ours some dozens in its life. */
const eventPagesMax = 20;
/** The type of the events that a stack tells of itself. */
const wholeType = "AWS::CloudFormation::Stack";

export class StackDesk {
  readonly #parts: StackParts;
  readonly #client: CloudFormationClient;

  constructor(parts: StackParts) {
    this.#parts = parts;
    this.#client = new CloudFormationClient({ region: parts.region, maxAttempts: 5 });
  }

  close(): void {
    this.#client.destroy();
  }

  /** Null: there is none. Throws `conflict` for one that is not ours. */
  async find(): Promise<Stack | null> {
    const found = await this.#describe(this.#parts.name);
    if (found === null || found.StackStatus === "DELETE_COMPLETE") return null;
    if (!found.Tags?.some(({ Key }) => Key === stackTag)) {
      throw new MayflyError(
        "conflict",
        `there is a stack ${this.#parts.name}, and not of Mayfly's`,
        {
          where: "--name",
          hint: "Choose another name; this one is left alone.",
        },
      );
    }
    const { TemplateBody = "{}" } = await this.#call("GetTemplate", () =>
      this.#client.send(new GetTemplateCommand({ StackName: found.StackId })),
    );
    const template = JSON.parse(TemplateBody) as unknown;
    const outputs = found.Outputs?.map(({ OutputKey, OutputValue }) => [
      OutputKey ?? "",
      OutputValue ?? "",
    ]);
    return {
      id: found.StackId ?? "",
      status: found.StackStatus ?? "",
      outputs: Object.fromEntries(outputs ?? []) as Record<string, string>,
      options: optionsOf(template),
      template,
    };
  }

  /** Makes or changes it; resolves when all is done. Throws with the first resource that failed. */
  async put(
    found: Stack | null,
    template: Template,
    options: StackOptions,
  ): Promise<"made" | "changed" | "unchanged"> {
    const input = {
      StackName: this.#parts.name,
      TemplateBody: JSON.stringify(template),
      // Roles and users without names of their own.
      Capabilities: ["CAPABILITY_IAM" as const],
      Tags: [...stackTags(options)],
    };
    if (found === null) {
      const { StackId } = await this.#call("CreateStack", () =>
        // What could not be made whole goes away by itself, so that the next try finds a free name.
        this.#client.send(new CreateStackCommand({ ...input, OnFailure: "DELETE" })),
      );
      await this.#follow(StackId ?? "", new Set(), ["CREATE_COMPLETE"]);
      return "made";
    }
    requireSettled(found);
    if (changesBetween(found.template, template).length === 0) return "unchanged";
    const past = await this.#past(found.id);
    try {
      await this.#call("UpdateStack", () => this.#client.send(new UpdateStackCommand(input)));
    } catch (error) {
      if (error instanceof MayflyError && /no updates are to be/i.test(error.message)) {
        return "unchanged";
      }
      throw error;
    }
    await this.#follow(found.id, past, ["UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"]);
    return "changed";
  }

  /** Resolves when it is gone. */
  async remove({ id }: Stack): Promise<void> {
    const past = await this.#past(id);
    await this.#call("DeleteStack", () =>
      this.#client.send(new DeleteStackCommand({ StackName: id })),
    );
    await this.#follow(id, past, ["DELETE_COMPLETE"]);
  }

  /** What AWS calls a resource of it; null: it is not there. */
  async resource({ id }: Stack, name: string): Promise<string | null> {
    const { StackResources } = await this.#call("DescribeStackResources", () =>
      this.#client.send(new DescribeStackResourcesCommand({ StackName: id })),
    );
    const found = StackResources?.find(({ LogicalResourceId }) => LogicalResourceId === name);
    return found?.PhysicalResourceId ?? null;
  }

  /** The resources that are left of it, by their names and types. */
  async left({ id }: Stack): Promise<readonly string[]> {
    const { StackResources } = await this.#call("DescribeStackResources", () =>
      this.#client.send(new DescribeStackResourcesCommand({ StackName: id })),
    );
    return (StackResources ?? [])
      .filter(({ ResourceStatus }) => ResourceStatus !== "DELETE_COMPLETE")
      .map(
        (each) => `${each.LogicalResourceId} (${each.ResourceType}, ${each.PhysicalResourceId})`,
      );
  }

  /**
   * Tells events until the stack has come to rest, as the last that it told of itself says; throws
   * unless that is where it was to go. `told`: events of before.
   */
  async #follow(id: string, told: Set<string>, goals: readonly string[]): Promise<void> {
    const { now, tell, deadlineMs } = this.#parts;
    const until = now() + deadlineMs;
    let firstFailure: StackEvent | null = null;
    let status = "its beginning";
    for (;;) {
      for (const event of await this.#newEvents(id, told)) {
        tell(event);
        if (isFailure(event)) firstFailure ??= event;
        if (event.type === wholeType) status = event.status;
      }
      if (goals.includes(status)) return;
      if (/_(COMPLETE|FAILED)$/.test(status)) throw failed(status, firstFailure);
      if (now() >= until) {
        throw new MayflyError("unavailable", `the stack is still at ${status}`, {
          hint: "AWS goes on with it; `mayfly aws status` tells how it stands.",
        });
      }
      await this.#pause();
    }
  }

  async #pause(): Promise<void> {
    const { sleep, signal, pollMs } = this.#parts;
    try {
      await sleep(pollMs, signal);
    } catch {
      throw new MayflyError("conflict", "no longer followed; AWS goes on with it", {
        hint: "`mayfly aws status` tells how it stands.",
      });
    }
  }

  /** Events that are not in `told` yet, the oldest first; they are put there. */
  async #newEvents(id: string, told: Set<string>): Promise<readonly StackEvent[]> {
    const found: SdkEvent[] = [];
    let token: string | undefined;
    for (let page = 0; page < eventPagesMax; page++) {
      const command = new DescribeStackEventsCommand({
        StackName: id,
        ...(token === undefined ? {} : { NextToken: token }),
      });
      const call = () => this.#client.send(command);
      const { StackEvents = [], NextToken } = await this.#call("DescribeStackEvents", call);
      const fresh = StackEvents.filter(({ EventId = "" }) => !told.has(EventId));
      found.push(...fresh);
      // The newest come first: behind one that was told are none that were not.
      if (NextToken === undefined || fresh.length < StackEvents.length) break;
      token = NextToken;
    }
    for (const { EventId = "" } of found) told.add(EventId);
    return found.map(eventOf).reverse();
  }

  /** The events so far, as told. */
  async #past(id: string): Promise<Set<string>> {
    const told = new Set<string>();
    await this.#newEvents(id, told);
    return told;
  }

  async #describe(nameOrId: string): Promise<SdkStack | null> {
    const command = new DescribeStacksCommand({ StackName: nameOrId });
    const call = this.#call("DescribeStacks", () => this.#client.send(command));
    return (await unlessGone(call))?.Stacks?.[0] ?? null;
  }

  #call<T>(action: string, call: () => Promise<T>): Promise<T> {
    return explained(`cloudformation:${action}`, call);
  }
}

/** CloudFormation has no error code for a stack that is not there. */
async function unlessGone<T>(call: Promise<T>): Promise<T | null> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof MayflyError && error.message.includes("does not exist")) return null;
    throw error;
  }
}

function eventOf(event: SdkEvent): StackEvent {
  return {
    at: event.Timestamp?.getTime() ?? 0,
    resource: event.LogicalResourceId ?? "",
    type: event.ResourceType ?? "",
    status: event.ResourceStatus ?? "",
    reason: event.ResourceStatusReason ?? "",
  };
}

/** What was given up because another resource failed says nothing about why. */
function isFailure({ type, status, reason }: StackEvent): boolean {
  return type !== wholeType && status.endsWith("_FAILED") && !/cancelled/i.test(reason);
}

function failed(status: string, event: StackEvent | null): MayflyError {
  if (event === null) return new MayflyError("conflict", `the stack ended at ${status}`);
  const { resource, type, reason } = event;
  const message = `${resource} (${type}) failed: ${reason || "AWS does not say why"}`;
  const hint = adviceFor(reason);
  return new MayflyError("conflict", message, hint === null ? {} : { hint });
}

/** A stack that is being changed, or that failed half way, is not changed again. */
function requireSettled({ status }: Stack): void {
  if (/^(CREATE|UPDATE|IMPORT)_COMPLETE$|^UPDATE_ROLLBACK_COMPLETE$/.test(status)) return;
  const isBusy = status.endsWith("_IN_PROGRESS");
  const hint = isBusy
    ? "Wait until it has come to rest: `mayfly aws status`."
    : "It cannot be mended: `mayfly aws down`, then `mayfly aws up`.";
  throw new MayflyError("conflict", `the stack is at ${status}`, { hint });
}

function optionsOf(template: unknown): StackOptions | null {
  try {
    const { Metadata } = template as { Metadata: { Mayfly: { options: string } } };
    // An older Mayfly's may lack some.
    return { ...defaultStack, ...(JSON.parse(Metadata.Mayfly.options) as Partial<StackOptions>) };
  } catch {
    return null;
  }
}

type Resources = Readonly<Record<string, { readonly Type: string }>>;

/** What an update would do, by resources; empty: nothing. */
export function changesBetween(before: unknown, after: Template): readonly Change[] {
  const old = (before as { Resources?: Resources } | null)?.Resources ?? {};
  const fresh: Resources = after.Resources;
  const added = Object.entries(fresh).flatMap(([resource, value]): Change[] => {
    const { Type: type } = value;
    if (!(resource in old)) return [{ change: "add", resource, type }];
    return isDeepStrictEqual(old[resource], value) ? [] : [{ change: "alter", resource, type }];
  });
  const gone = Object.entries(old).filter(([resource]) => !(resource in fresh));
  const removed = gone.map(([resource, { Type: type }]): Change => ({
    change: "remove",
    resource,
    type,
  }));
  return [...added, ...removed];
}
