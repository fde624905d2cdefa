import type { RunInstancesCommandInput } from "@aws-sdk/client-ec2";
import { createHash } from "node:crypto";
import { ProviderError } from "../../domain/errors.ts";
import type { Program } from "../../domain/program.ts";
import { listed } from "../../domain/words.ts";
import type { MachineSpec, ProviderLog } from "../provider.ts";
import type { Breaker } from "./breaker.ts";
import type { Cloud } from "./cloud.ts";
import { Ec2Error } from "./errors.ts";
import type { Image } from "./images.ts";
import { chosen, tags, type Seen } from "./instances.ts";
import type { Ec2Options } from "./options.ts";
import { fitting, type InstanceType } from "./types.ts";
import { userData } from "./user-data.ts";

/** Places that one call of `create` asks; the next call begins where the breaker allows. */
const spotTriesMax = 8;
const onDemandTriesMax = 6;
/** How often one name may be made, ended, and made again within the hour that EC2 remembers. */
const generationsMax = 5;
/** Names whose last request got no answer; beyond that the oldest is forgotten. */
const unsureMax = 10_000;

/** One way to buy the machine: a market, a type and a subnet. */
export interface Place {
  readonly key: string;
  readonly isSpot: boolean;
  readonly type: InstanceType;
  readonly subnet: string;
}

export function placeKey(isSpot: boolean, type: string, subnet: string): string {
  return `${isSpot ? "spot" : "on-demand"} ${type} ${subnet}`;
}

/** What a machine may be, the best first: spot by price and zone, then on demand by the same. */
function placesFor(
  options: Pick<Ec2Options, "market" | "subnets">,
  types: readonly InstanceType[],
  spec: MachineSpec,
): readonly Place[] {
  const fits = fitting(types, spec.size);
  const all = (isSpot: boolean, most: number): Place[] =>
    fits
      .flatMap((type) =>
        options.subnets.map((subnet) => ({
          key: placeKey(isSpot, type.name, subnet),
          isSpot,
          type,
          subnet,
        })),
      )
      .slice(0, most);
  const noSpot = options.market === "on-demand" || (spec.isOnDemand && options.market !== "spot");
  return [
    ...(noSpot ? [] : all(true, spotTriesMax)),
    ...(options.market === "spot" ? [] : all(false, onDemandTriesMax)),
  ];
}

/** What a launch needs of its provider. */
export interface LaunchParts {
  readonly options: Ec2Options;
  readonly installation: string;
  readonly types: readonly InstanceType[];
  /** Whether identity documents can be verified. */
  readonly proves: boolean;
  readonly cloud: Cloud;
  readonly breaker: Breaker;
  readonly now: () => number;
  readonly log: ProviderLog;
}

/** Asks for machines, place after place, so that no name is ever launched at two places. */
export class Launcher {
  readonly #parts: LaunchParts;
  /** By name: where a request was sent of which nobody knows what came of it, and when. */
  readonly #unsure = new Map<string, { place: Place; at: number }>();

  constructor(parts: LaunchParts) {
    this.#parts = parts;
  }

  /** When a request for this name was sent that got no answer; null: none was. */
  unsureSince(name: string): number | null {
    return this.#unsure.get(name)?.at ?? null;
  }

  forget(name: string): void {
    this.#unsure.delete(name);
  }

  /** Throws `no_capacity` when every place was asked, or is closed, in vain. */
  async launch(spec: MachineSpec, program: Program, image: Image): Promise<Seen> {
    const { options, types, breaker, now } = this.#parts;
    // A place without an answer is asked again before any other: it may have made the machine.
    const unsure = this.#unsure.get(spec.name)?.place;
    const others = placesFor(options, types, spec).filter(({ key }) => key !== unsure?.key);
    const places = unsure === undefined ? others : [unsure, ...others];
    const refusals: string[] = [];
    let hasSpot = true;
    let lastQuota: ProviderError | null = null;
    let opensAt = Number.POSITIVE_INFINITY;
    for (const place of places) {
      if (place.isSpot && !hasSpot) continue;
      const closedUntil = place === unsure ? 0 : breaker.closedUntil(place.key);
      if (closedUntil > 0) {
        opensAt = Math.min(opensAt, closedUntil);
        continue;
      }
      try {
        return await this.#at(place, spec, program, image);
      } catch (error) {
        if (!(error instanceof Ec2Error)) throw error;
        if (error.remedy === "elsewhere") breaker.empty(place.key);
        else if (error.remedy === "on-demand") {
          hasSpot = false;
          lastQuota = error;
        } else throw error;
        refusals.push(`${place.key}: ${error.code}`);
      }
    }
    if (lastQuota !== null && options.market === "spot") throw lastQuota;
    const waitMs = Number.isFinite(opensAt) ? Math.max(1, opensAt - now()) : undefined;
    const tried = refusals.length > 0 ? listed(refusals) : "every place was empty a moment ago";
    throw new ProviderError("no_capacity", tried, refusals.length > 0 ? undefined : waitMs);
  }

  async #at(place: Place, spec: MachineSpec, program: Program, image: Image): Promise<Seen> {
    const { cloud, breaker, now } = this.#parts;
    this.#remember(spec.name, place, now());
    for (let generation = 0; ; generation++) {
      const token = tokenOf(this.#parts.installation, spec.name, place.key, generation);
      try {
        const seen = await cloud.run(() => ({
          ...this.#request(place, spec, program, image),
          ClientToken: token,
        }));
        this.#unsure.delete(spec.name);
        breaker.fine(place.key);
        return seen;
      } catch (error) {
        if (error instanceof Ec2Error) {
          const isSpent = error.remedy === "other-token";
          if (isSpent && generation + 1 < generationsMax) continue;
          if (error.remedy === "adopt") return this.#adopt(spec.name, error);
        }
        // A clear no: there is no machine at this place.
        if (error instanceof ProviderError && error.kind !== "unreachable") {
          this.#unsure.delete(spec.name);
        }
        throw error;
      }
    }
  }

  /** The token made a machine already, from parameters that were others then: an older Mayfly's, perhaps. */
  async #adopt(name: string, error: Ec2Error): Promise<Seen> {
    const found = chosen(await this.#parts.cloud.find(name));
    // EC2 may not show it yet; `unreachable` has us asked again.
    if (found === undefined) throw error;
    this.#unsure.delete(name);
    this.#parts.log.info({ machine: name, instance: found.id }, "took over an earlier instance");
    return found;
  }

  #remember(name: string, place: Place, at: number): void {
    this.#unsure.set(name, { place, at });
    if (this.#unsure.size <= unsureMax) return;
    const [oldest] = this.#unsure.keys();
    if (oldest !== undefined) this.#unsure.delete(oldest);
  }

  /** The same for the same machine, whenever it is asked: else its token would be refused. */
  #request(
    { isSpot, type, subnet }: Place,
    spec: MachineSpec,
    program: Program,
    image: Image,
  ): RunInstancesCommandInput {
    const { options, installation } = this.#parts;
    const secret =
      options.claimBy === "parameter"
        ? { region: options.region, prefix: secretPrefix(installation) }
        : null;
    const marks = [
      { Key: "Name", Value: spec.name },
      { Key: tags.machine, Value: spec.name },
      { Key: tags.installation, Value: installation },
      { Key: tags.deadlineSeconds, Value: String(Math.ceil(program.deadlineSeconds)) },
    ];
    const { instanceProfile, publicAddress, kmsKey } = options;
    const diskGb = Math.ceil(Math.max(options.diskGb, spec.size.diskGb, image.diskGb));
    return {
      MinCount: 1,
      MaxCount: 1,
      ImageId: image.id,
      InstanceType: type.name as never,
      UserData: userData({ program, isSpot, proves: this.#parts.proves, secret }),
      // Whatever happens in the machine, its end is the instance's end.
      InstanceInitiatedShutdownBehavior: "terminate",
      // One hop: a container of the job does not reach the metadata.
      MetadataOptions: {
        HttpTokens: "required",
        HttpPutResponseHopLimit: 1,
        HttpEndpoint: "enabled",
        InstanceMetadataTags: "disabled",
      },
      NetworkInterfaces: [
        {
          DeviceIndex: 0,
          SubnetId: subnet,
          Groups: options.securityGroups,
          DeleteOnTermination: true,
          ...(publicAddress === undefined ? {} : { AssociatePublicIpAddress: publicAddress }),
        },
      ],
      BlockDeviceMappings: [
        {
          DeviceName: image.rootDevice,
          Ebs: {
            VolumeSize: diskGb,
            VolumeType: "gp3",
            Encrypted: true,
            DeleteOnTermination: true,
            ...(kmsKey === undefined ? {} : { KmsKeyId: kmsKey }),
          },
        },
      ],
      ...(instanceProfile === undefined ? {} : { IamInstanceProfile: { Name: instanceProfile } }),
      ...(isSpot
        ? {
            InstanceMarketOptions: {
              MarketType: "spot",
              SpotOptions: {
                SpotInstanceType: "one-time",
                InstanceInterruptionBehavior: "terminate",
              },
            },
          }
        : {}),
      TagSpecifications: (["instance", "volume"] as const).map((ResourceType) => ({
        ResourceType,
        Tags: marks,
      })),
    };
  }

  /** For `mayfly doctor`: what it would ask for, as it would ask for it. */
  sample(spec: MachineSpec, program: Program, image: Image): RunInstancesCommandInput | null {
    const place = placesFor(this.#parts.options, this.#parts.types, spec).at(-1);
    return place === undefined ? null : this.#request(place, spec, program, image);
  }
}

export function secretPrefix(installation: string): string {
  return `/mayfly/${installation}`;
}

/** EC2 takes 64 characters at most; the same attempt always has the same. */
function tokenOf(installation: string, name: string, place: string, generation: number): string {
  const text = JSON.stringify([installation, name, place, generation]);
  return createHash("sha256").update(text).digest("hex");
}
