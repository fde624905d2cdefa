import {
  DescribeInstancesCommand,
  EC2Client,
  TerminateInstancesCommand,
  type Instance,
} from "@aws-sdk/client-ec2";
import { MayflyError } from "../../../domain/errors.ts";
import { tags } from "../instances.ts";
import { explained } from "./errors.ts";

/** An instance in a stack's network. */
export interface Resident {
  readonly id: string;
  readonly name: string;
  readonly state: string;
  /** Whether this stack's manager made it, by its tag. */
  readonly isOurs: boolean;
}

export interface ResidentsParts {
  readonly region: string;
  readonly network: string;
  /** Whose machines are ours; null: those of any installation, for nobody else's network this is. */
  readonly installation: string | null;
  readonly now: () => number;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  readonly signal: AbortSignal;
  readonly deadlineMs: number;
  readonly pollMs: number;
}

const pagesMax = 100;
const endsMax = 200;

/** The instances in a network, and the end of those that are ours. */
export class Residents {
  readonly #parts: ResidentsParts;
  readonly #client: EC2Client;

  constructor(parts: ResidentsParts) {
    this.#parts = parts;
    this.#client = new EC2Client({ region: parts.region, maxAttempts: 5 });
  }

  close(): void {
    this.#client.destroy();
  }

  /** All that are not over. */
  async list(): Promise<readonly Resident[]> {
    const found: Instance[] = [];
    let token: string | undefined;
    for (let page = 0; page < pagesMax; page++) {
      const command = new DescribeInstancesCommand({
        Filters: [
          { Name: "vpc-id", Values: [this.#parts.network] },
          {
            Name: "instance-state-name",
            Values: ["pending", "running", "shutting-down", "stopping", "stopped"],
          },
        ],
        ...(token === undefined ? {} : { NextToken: token }),
      });
      const answer = await explained("ec2:DescribeInstances", () => this.#client.send(command));
      found.push(...(answer.Reservations?.flatMap(({ Instances }) => Instances ?? []) ?? []));
      token = answer.NextToken || undefined;
      if (token === undefined) break;
    }
    return found.map((instance) => this.#residentOf(instance));
  }

  /** Ends ours, and resolves when they are over. The others are never touched. */
  async end(residents: readonly Resident[]): Promise<void> {
    const { now, sleep, signal, deadlineMs, pollMs } = this.#parts;
    const ours = residents.filter(({ isOurs }) => isOurs).map(({ id }) => id);
    for (let n = 0; n < ours.length; n += endsMax) {
      const command = new TerminateInstancesCommand({ InstanceIds: ours.slice(n, n + endsMax) });
      await explained("ec2:TerminateInstances", () => this.#client.send(command));
    }
    const until = now() + deadlineMs;
    while ((await this.list()).some(({ isOurs }) => isOurs)) {
      if (now() >= until) {
        throw new MayflyError("unavailable", "machines are still ending", {
          hint: "Stop the Mayfly that makes new ones, then run `mayfly aws down` again.",
        });
      }
      await sleep(pollMs, signal).catch(() => {
        throw new MayflyError("conflict", "no longer followed; the machines go on ending", {
          hint: "`mayfly aws down` goes on from there.",
        });
      });
    }
  }

  #residentOf({ InstanceId = "", State, Tags = [] }: Instance): Resident {
    const tag = (key: string) => Tags.find(({ Key }) => Key === key)?.Value;
    const installation = tag(tags.installation);
    const { installation: wanted } = this.#parts;
    const isOurs = installation !== undefined && (wanted === null || wanted === installation);
    return { id: InstanceId, name: tag("Name") ?? "", state: State?.Name ?? "", isOurs };
  }
}
