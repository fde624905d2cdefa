import {
  EC2Client,
  DescribeImagesCommand,
  DescribeInstancesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSpotPriceHistoryCommand,
  DescribeSubnetsCommand,
  RunInstancesCommand,
  TerminateInstancesCommand,
  type Reservation,
  type RunInstancesCommandInput,
} from "@aws-sdk/client-ec2";
import {
  DeleteParameterCommand,
  GetParameterCommand,
  PutParameterCommand,
  SSMClient,
} from "@aws-sdk/client-ssm";
import { setTimeout as sleep } from "node:timers/promises";
import pLimit from "p-limit";
import { ProviderError } from "../../domain/errors.ts";
import { asEc2Error, Ec2Error } from "./errors.ts";
import { seenOf, tags, type Seen } from "./instances.ts";
import type { Ec2Options } from "./options.ts";
import { Batch, Pace } from "./pace.ts";

/** EC2 takes at most 200 values in one filter. */
const namesMax = 200;
/** TerminateInstances takes up to 1,000; fewer keeps one bad id from holding up many. */
const endsMax = 200;
/** EC2 gives up to 1,000; smaller answers come in time also where it is slow. */
const pageSize = 200;
/** Beside so many a second: where EC2 answers slowly they must not pile up until they time out. */
const runsAtOnce = 20;
const pagesMax = 100;
const retriesMax = 4;
const firstPauseMs = 1_000;
const connectMs = 10_000;
const answerMs = 30_000;

/** A parameter's tag that a policy compares with who asks. */
const secretTag = "InstanceId";

/** How AWS's clients are to be opened: where, as whom, and with which deadlines. */
export function clientConfig(options: Pick<Ec2Options, "region" | "endpoint" | "accessKey">) {
  const { region, endpoint, accessKey } = options;
  return {
    region,
    // Repeating is ours to decide: the SDK would hide how many calls there are.
    maxAttempts: 1,
    // Without the last the SDK only warns, and waits on.
    requestHandler: {
      connectionTimeout: connectMs,
      requestTimeout: answerMs,
      throwOnRequestTimeout: true,
    },
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(accessKey === undefined
      ? {}
      : {
          credentials: {
            accessKeyId: accessKey.id.reveal(),
            secretAccessKey: accessKey.secret.reveal(),
          },
        }),
  };
}

/**
 * EC2 and Parameter Store: each call in its turn, repeated after a pause where that helps, and
 * every failure a `ProviderError`. What is asked of single machines goes together in one call.
 */
export class Cloud {
  readonly #ec2Client: EC2Client;
  readonly #ssmClient: SSMClient;
  readonly #installation: string;
  readonly #runs: Pace;
  readonly #running = pLimit(runsAtOnce);
  readonly #reads: Pace;
  readonly #ends: Pace;
  readonly #parameters = new Pace(10);
  readonly #lookups: Batch<string, readonly Seen[]>;
  readonly #terminations: Batch<string, void>;

  /** Says nothing to AWS yet. */
  constructor(options: Ec2Options, installation: string) {
    this.#installation = installation;
    const config = clientConfig(options);
    this.#ec2Client = new EC2Client(config);
    this.#ssmClient = new SSMClient(config);
    this.#runs = new Pace(options.runsPerSecond);
    this.#reads = new Pace(options.readsPerSecond);
    this.#ends = new Pace(options.endsPerSecond);
    this.#lookups = new Batch(
      namesMax,
      () => this.#reads.take(),
      (names) => this.#lookUp(names),
    );
    this.#terminations = new Batch(
      endsMax,
      () => this.#ends.take(),
      (ids) => this.#terminate(ids),
    );
  }

  /** Starts one instance. Its client token makes a repetition harmless, so a lost answer is asked for again. */
  async run(input: () => RunInstancesCommandInput): Promise<Seen> {
    // Made when its turn has come: many that wait need not be in memory.
    const call = () => this.#ec2Client.send(new RunInstancesCommand(input()));
    const { Instances, OwnerId } = await this.#running(() =>
      this.#call("RunInstances", this.#runs, call, 1),
    );
    const seen = Instances?.[0] && seenOf(Instances[0], OwnerId);
    if (seen) return seen;
    throw new ProviderError("unreachable", "RunInstances: an answer without an instance");
  }

  /** The instances that bear this machine's name, over ones too. */
  find(name: string): Promise<readonly Seen[]> {
    return this.#lookups.ask(name);
  }

  /** One instance by its id, and null when EC2 does not show it (yet). */
  async instance(id: string): Promise<Seen | null> {
    const command = new DescribeInstancesCommand({ InstanceIds: [id] });
    try {
      const call = () => this.#ec2Client.send(command);
      const { Reservations } = await this.#call("DescribeInstances", this.#reads, call);
      return shown(Reservations)[0] ?? null;
    } catch (error) {
      if (error instanceof ProviderError && error.kind === "gone") return null;
      throw error;
    }
  }

  /** All instances of this installation, page by page. */
  list(): Promise<readonly Seen[]> {
    return this.#describe([{ Name: `tag:${tags.installation}`, Values: [this.#installation] }]);
  }

  /** Asks for an instance's end; one that is not there has ended. */
  end(id: string): Promise<void> {
    return this.#terminations.ask(id);
  }

  async image(filters: { id?: string; owner?: string; name?: string; architecture: string }) {
    const { id, owner, name, architecture } = filters;
    const by = name === undefined ? [] : [{ Name: "name", Values: [name] }];
    const command = new DescribeImagesCommand({
      ...(id === undefined ? {} : { ImageIds: [id] }),
      ...(owner === undefined ? {} : { Owners: [owner] }),
      ...(id === undefined
        ? {
            Filters: [
              ...by,
              { Name: "architecture", Values: [architecture] },
              { Name: "state", Values: ["available"] },
            ],
          }
        : {}),
    });
    const call = () => this.#ec2Client.send(command);
    const { Images } = await this.#call("DescribeImages", this.#reads, call);
    return Images ?? [];
  }

  async parameter(name: string): Promise<string | null> {
    const command = new GetParameterCommand({ Name: name });
    const call = () => this.#ssmClient.send(command);
    const { Parameter } = await this.#call("GetParameter", this.#parameters, call);
    return Parameter?.Value ?? null;
  }

  /** Tagged with its instance, by which the role's policy lets that one alone read it. */
  async putSecret(name: string, value: string, instance: string): Promise<void> {
    const command = new PutParameterCommand({
      Name: name,
      Value: value,
      Type: "SecureString",
      Tags: [
        { Key: secretTag, Value: instance },
        { Key: tags.installation, Value: this.#installation },
      ],
    });
    try {
      await this.#call("PutParameter", this.#parameters, () => this.#ssmClient.send(command));
    } catch (error) {
      // A machine's secret is always the same, so the one that is there will do.
      if (!(error instanceof Ec2Error && error.code === "ParameterAlreadyExists")) throw error;
    }
  }

  async removeSecret(name: string): Promise<void> {
    const command = new DeleteParameterCommand({ Name: name });
    try {
      await this.#call("DeleteParameter", this.#parameters, () => this.#ssmClient.send(command));
    } catch (error) {
      if (!(error instanceof ProviderError && error.kind === "gone")) throw error;
    }
  }

  /** What spot costs now, by type and zone, micro-dollars an hour. */
  async spotPrices(types: readonly string[], now: number): Promise<ReadonlyMap<string, number>> {
    const cheapest = new Map<string, number>();
    let token: string | undefined;
    for (let page = 0; page < 10; page++) {
      const command = new DescribeSpotPriceHistoryCommand({
        InstanceTypes: types as string[] as never,
        ProductDescriptions: ["Linux/UNIX"],
        StartTime: new Date(now),
        ...(token === undefined ? {} : { NextToken: token }),
      });
      const call = () => this.#ec2Client.send(command);
      const answer = await this.#call("DescribeSpotPriceHistory", this.#reads, call);
      for (const { InstanceType: type = "", SpotPrice } of answer.SpotPriceHistory ?? []) {
        const price = Math.round(Number(SpotPrice) * 1_000_000);
        if (!(price > 0)) continue;
        cheapest.set(type, Math.min(price, cheapest.get(type) ?? price));
      }
      token = answer.NextToken || undefined;
      if (token === undefined) break;
    }
    return cheapest;
  }

  /** The rules that let something in, by group. */
  async inbound(groups: readonly string[]): Promise<ReadonlyMap<string, number>> {
    const command = new DescribeSecurityGroupsCommand({ GroupIds: [...groups] });
    const call = () => this.#ec2Client.send(command);
    const { SecurityGroups } = await this.#call("DescribeSecurityGroups", this.#reads, call);
    return new Map(
      SecurityGroups?.map(({ GroupId, IpPermissions }) => [
        GroupId ?? "",
        IpPermissions?.length ?? 0,
      ]),
    );
  }

  /** The zone of each subnet. */
  async zones(subnets: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const command = new DescribeSubnetsCommand({ SubnetIds: [...subnets] });
    const call = () => this.#ec2Client.send(command);
    const { Subnets } = await this.#call("DescribeSubnets", this.#reads, call);
    return new Map(
      Subnets?.map(({ SubnetId, AvailabilityZone }) => [SubnetId ?? "", AvailabilityZone ?? ""]),
    );
  }

  /** Whether EC2 would do it, without doing it: null, or why not. */
  async dryRun(action: "RunInstances" | "TerminateInstances", input: unknown) {
    const command =
      action === "RunInstances"
        ? new RunInstancesCommand({
            ...(input as RunInstancesCommandInput),
            DryRun: true,
          })
        : new TerminateInstancesCommand({ InstanceIds: [input as string], DryRun: true });
    const pace = action === "RunInstances" ? this.#runs : this.#ends;
    try {
      await this.#call(action, pace, () => this.#ec2Client.send(command as never));
      return null;
    } catch (error) {
      if (error instanceof Ec2Error && error.code === "DryRunOperation") return null;
      if (error instanceof ProviderError) return error;
      throw error;
    }
  }

  close(): void {
    this.#ec2Client.destroy();
    this.#ssmClient.destroy();
  }

  async #lookUp(names: readonly string[]): Promise<(name: string) => readonly Seen[]> {
    const found = await this.#describe([{ Name: `tag:${tags.machine}`, Values: [...names] }], true);
    const byName = Map.groupBy(found, ({ name }) => name);
    return (name) => byName.get(name) ?? [];
  }

  async #describe(
    filters: { Name: string; Values: string[] }[],
    hasTurn = false,
  ): Promise<readonly Seen[]> {
    const found: Seen[] = [];
    let token: string | undefined;
    for (let page = 0; page < pagesMax; page++) {
      const command = new DescribeInstancesCommand({
        Filters: filters,
        MaxResults: pageSize,
        ...(token === undefined ? {} : { NextToken: token }),
      });
      const call = () => this.#ec2Client.send(command);
      const pace = hasTurn && page === 0 ? null : this.#reads;
      const answer = await this.#call("DescribeInstances", pace, call);
      found.push(...shown(answer.Reservations));
      token = answer.NextToken || undefined;
      if (token === undefined) return found;
    }
    throw new ProviderError("unreachable", `DescribeInstances: more than ${pagesMax} pages`);
  }

  async #terminate(ids: readonly string[]): Promise<() => void> {
    const send = (some: readonly string[], pace: Pace | null) => {
      const command = new TerminateInstancesCommand({ InstanceIds: [...some] });
      return this.#call("TerminateInstances", pace, () => this.#ec2Client.send(command));
    };
    try {
      await send(ids, null);
    } catch (error) {
      if (!(error instanceof ProviderError && error.kind === "gone")) throw error;
      // One that EC2 does not know made it refuse all of them.
      if (ids.length > 1) {
        for (const id of ids) await send([id], this.#ends).catch(ignoreGone);
      }
    }
    return () => {};
  }

  /** `pace` null: the turn was taken. `lostMax`: how often to repeat a call that got no answer. */
  async #call<T>(
    action: string,
    pace: Pace | null,
    call: () => Promise<T>,
    lostMax = 0,
  ): Promise<T> {
    let lost = 0;
    for (let retries = 0; ; retries++) {
      if (pace !== null) await pace.take();
      try {
        return await call();
      } catch (error) {
        const failure = asEc2Error(action, error);
        const isThrottled = failure.kind === "throttled";
        const isLost =
          failure.kind === "unreachable" &&
          !(failure instanceof Ec2Error && failure.remedy === "adopt");
        const isLast = isThrottled ? retries >= retriesMax : !isLost || lost++ >= lostMax;
        if (isLast) throw failure;
        const pauseMs = firstPauseMs * 2 ** retries;
        if (!isThrottled) continue;
        if (pace === null) await sleep(pauseMs);
        else pace.pause(pauseMs);
      }
    }
  }
}

function shown(reservations: readonly Reservation[] = []): readonly Seen[] {
  return reservations.flatMap(({ Instances, OwnerId }) =>
    (Instances ?? []).flatMap((instance) => seenOf(instance, OwnerId) ?? []),
  );
}

function ignoreGone(error: unknown): void {
  if (!(error instanceof ProviderError && error.kind === "gone")) throw error;
}
