import {
  CompleteSnapshotCommand,
  EBSClient,
  PutSnapshotBlockCommand,
  StartSnapshotCommand,
} from "@aws-sdk/client-ebs";
import {
  DeleteSnapshotCommand,
  DeregisterImageCommand,
  DescribeImagesCommand,
  DescribeInstancesCommand,
  DescribeSnapshotsCommand,
  EC2Client,
  RegisterImageCommand,
  type Image as Ec2Image,
  type Snapshot as Ec2Snapshot,
} from "@aws-sdk/client-ec2";
import { setTimeout as sleep } from "node:timers/promises";
import { ProviderError } from "../../domain/errors.ts";
import type { Architecture } from "../../domain/size.ts";
import { clientConfig } from "./cloud.ts";
import { asEc2Error, Ec2Error } from "./errors.ts";
import { tags } from "./instances.ts";
import type { Ec2Options } from "./options.ts";

/** What an image's and its snapshot's tags say, beside whose it is. */
const imageTags = {
  /** The digest of its disk. */
  disk: "mayfly:disk",
  /** `runner amd64 debian bookworm`: which others it replaces. */
  kind: "mayfly:kind",
} as const;

const retriesMax = 9;
const pauseMsMax = 15_000;
const pagesMax = 50;
/** Minutes after which a snapshot that nobody writes to any more fails. */
const idleMinutes = 60;

/** What passes by itself, though its status is that of a mistake (EBS's "Error retries"). */
const passing = new Set([
  "RequestThrottledException",
  "ConcurrentLimitExceededException",
  "InternalServerException",
]);

/** An image of ours. */
export interface Published {
  readonly id: string;
  readonly name: string;
  readonly kind: string;
  readonly disk: string;
  readonly state: string;
  readonly createdAt: number;
  readonly snapshots: readonly string[];
  readonly gib: number;
}

/** A snapshot of ours. */
export interface Snapshot {
  readonly id: string;
  /** `pending`, `completed` or `error`. */
  readonly state: string;
  readonly disk: string;
  readonly startedAt: number;
}

/** What is to be known by its tags. */
export interface Labels {
  readonly disk: string;
  readonly kind: string;
  readonly name: string;
}

export interface ImageCloudOptions extends Pick<Ec2Options, "region" | "endpoint" | "accessKey"> {
  readonly installation: string;
  /** The pause before a call is made again the first time; it doubles. */
  readonly firstPauseMs?: number;
}

/**
 * The calls of EC2's and of EBS's direct API that images take. Each is repeated where that helps,
 * and every failure is a `ProviderError`. All are safe to repeat.
 */
export class ImageCloud {
  readonly #ec2: EC2Client;
  readonly #ebs: EBSClient;
  readonly #installation: string;
  readonly #firstPauseMs: number;
  readonly #signal: AbortSignal;

  /** Says nothing to AWS yet. Once `signal` aborts, every call fails. */
  constructor(options: ImageCloudOptions, signal: AbortSignal) {
    const config = clientConfig(options);
    this.#ec2 = new EC2Client(config);
    this.#ebs = new EBSClient(config);
    this.#installation = options.installation;
    this.#firstPauseMs = options.firstPauseMs ?? 250;
    this.#signal = signal;
  }

  close(): void {
    this.#ec2.destroy();
    this.#ebs.destroy();
  }

  /** Our images, of this disk or of any. */
  async images(disk: string | null): Promise<Published[]> {
    const found: Published[] = [];
    const filters = this.#filters(disk);
    await this.#pages("DescribeImages", async (token) => {
      const command = new DescribeImagesCommand({ Owners: ["self"], Filters: filters, ...token });
      const answer = await this.#ec2.send(command, this.#abort);
      found.push(...(answer.Images ?? []).map(publishedOf));
      return answer.NextToken;
    });
    return found.filter(({ id }) => id !== "");
  }

  /** Our snapshots, of this disk or of any. */
  async snapshots(disk: string | null): Promise<Snapshot[]> {
    const found: Snapshot[] = [];
    const filters = this.#filters(disk);
    await this.#pages("DescribeSnapshots", async (token) => {
      const command = new DescribeSnapshotsCommand({
        OwnerIds: ["self"],
        Filters: filters,
        ...token,
      });
      const answer = await this.#ec2.send(command, this.#abort);
      found.push(...(answer.Snapshots ?? []).map(snapshotOf));
      return answer.NextToken;
    });
    return found.filter(({ id }) => id !== "");
  }

  /** Those of these images that an instance which is not over was made from, whoever made it. */
  async used(images: readonly string[]): Promise<ReadonlySet<string>> {
    const used = new Set<string>();
    // A filter takes 200 values.
    for (let at = 0; at < images.length; at += 200) {
      const states = ["pending", "running", "shutting-down", "stopping", "stopped"];
      const filters = [
        { Name: "image-id", Values: images.slice(at, at + 200) },
        { Name: "instance-state-name", Values: states },
      ];
      await this.#pages("DescribeInstances", async (token) => {
        const command = new DescribeInstancesCommand({ Filters: filters, ...token });
        const answer = await this.#ec2.send(command, this.#abort);
        for (const { Instances } of answer.Reservations ?? []) {
          for (const { ImageId } of Instances ?? []) if (ImageId !== undefined) used.add(ImageId);
        }
        return answer.NextToken;
      });
    }
    return used;
  }

  /** Starts an empty snapshot of so many GiB. With the same token it is the same one. */
  async start(labels: Labels, gib: number, token: string): Promise<string> {
    const command = new StartSnapshotCommand({
      VolumeSize: gib,
      ClientToken: token,
      Description: `${labels.name}, made by Mayfly`,
      Tags: this.#tags(labels),
      Timeout: idleMinutes,
    });
    const call = () => this.#ebs.send(command, this.#abort);
    const { SnapshotId } = await this.#call("StartSnapshot", call);
    if (SnapshotId !== undefined) return SnapshotId;
    throw new ProviderError("unreachable", "StartSnapshot: an answer without a snapshot");
  }

  /** Writes one block; `checksum` is its SHA-256 in base64, which EBS compares. */
  async put(snapshot: string, index: number, block: Uint8Array, checksum: string): Promise<void> {
    const call = () =>
      this.#ebs.send(
        new PutSnapshotBlockCommand({
          SnapshotId: snapshot,
          BlockIndex: index,
          BlockData: block,
          DataLength: block.length,
          Checksum: checksum,
          ChecksumAlgorithm: "SHA256",
        }),
        this.#abort,
      );
    // A block that was damaged on its way is sent again, and one of a snapshot that is too new.
    const isPassing = (error: Ec2Error): boolean =>
      error.code === "ResourceNotFoundException" ||
      (error.code === "ValidationException" && /checksum/i.test(error.message));
    await this.#call("PutSnapshotBlock", call, isPassing);
  }

  /** Seals it: so many blocks were written, and this is the SHA-256 over their SHA-256s. */
  async complete(snapshot: string, blocks: number, checksum: string): Promise<void> {
    const command = new CompleteSnapshotCommand({
      SnapshotId: snapshot,
      ChangedBlocksCount: blocks,
      Checksum: checksum,
      ChecksumAlgorithm: "SHA256",
      ChecksumAggregationMethod: "LINEAR",
    });
    await this.#call("CompleteSnapshot", () => this.#ebs.send(command, this.#abort));
  }

  /** Makes an image of a snapshot. An image's name is unique in the account and region. */
  async register(labels: Labels, snapshot: string, architecture: Architecture): Promise<void> {
    const tagged = this.#tags(labels);
    const command = new RegisterImageCommand({
      Name: labels.name,
      Description: `${labels.kind}, made by Mayfly`,
      Architecture: architecture === "x64" ? "x86_64" : "arm64",
      VirtualizationType: "hvm",
      // Of x64 some types know only a BIOS, bare metal for one.
      BootMode: architecture === "x64" ? "uefi-preferred" : "uefi",
      EnaSupport: true,
      // Instances of it have version 2 of the metadata alone, and one hop to it.
      ImdsSupport: "v2.0",
      RootDeviceName: "/dev/xvda",
      BlockDeviceMappings: [
        {
          DeviceName: "/dev/xvda",
          Ebs: { SnapshotId: snapshot, VolumeType: "gp3", DeleteOnTermination: true },
        },
      ],
      TagSpecifications: [{ ResourceType: "image", Tags: tagged }],
    });
    try {
      await this.#call("RegisterImage", () => this.#ec2.send(command, this.#abort));
    } catch (error) {
      // The answer of an attempt before got lost.
      if (!(error instanceof Ec2Error && error.code === "InvalidAMIName.Duplicate")) throw error;
    }
  }

  /** An image that is gone already will do. */
  async deregister(image: string): Promise<void> {
    const command = new DeregisterImageCommand({ ImageId: image });
    const call = () => this.#ec2.send(command, this.#abort);
    await this.#call("DeregisterImage", call).catch(
      ignore("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"),
    );
  }

  /** Right after its image is gone EC2 may still think that it is used. */
  async remove(snapshot: string): Promise<void> {
    const command = new DeleteSnapshotCommand({ SnapshotId: snapshot });
    const call = () => this.#ec2.send(command, this.#abort);
    const isPassing = (error: Ec2Error): boolean => error.code === "InvalidSnapshot.InUse";
    await this.#call("DeleteSnapshot", call, isPassing).catch(ignore("InvalidSnapshot.NotFound"));
  }

  /** Asks again, with pauses, until `look` finds something. Throws `unreachable` after `limitMs`. */
  async until<T>(what: string, limitMs: number, look: () => Promise<T | null>): Promise<T> {
    const limit = AbortSignal.timeout(limitMs);
    for (let n = 0; ; n++) {
      const found = await look();
      if (found !== null) return found;
      if (limit.aborted) throw new ProviderError("unreachable", `${what} takes too long`);
      await this.#pause(Math.min(n, 5) + 1);
    }
  }

  get #abort(): { abortSignal: AbortSignal } {
    return { abortSignal: this.#signal };
  }

  #tags({ disk, kind, name }: Labels): { Key: string; Value: string }[] {
    return [
      { Key: "Name", Value: name },
      { Key: tags.installation, Value: this.#installation },
      { Key: imageTags.disk, Value: disk },
      { Key: imageTags.kind, Value: kind },
    ];
  }

  #filters(disk: string | null): { Name: string; Values: string[] }[] {
    const ours = { Name: `tag:${tags.installation}`, Values: [this.#installation] };
    return disk === null ? [ours] : [ours, { Name: `tag:${imageTags.disk}`, Values: [disk] }];
  }

  async #pages(
    action: string,
    page: (token: { NextToken?: string }) => Promise<string | undefined>,
  ): Promise<void> {
    let next: string | undefined;
    for (let n = 0; n < pagesMax; n++) {
      const token = next === undefined ? {} : { NextToken: next };
      next = (await this.#call(action, () => page(token))) || undefined;
      if (next === undefined) return;
    }
    throw new ProviderError("unreachable", `${action}: more than ${pagesMax} pages`);
  }

  async #call<T>(
    action: string,
    call: () => Promise<T>,
    isPassing: (error: Ec2Error) => boolean = () => false,
  ): Promise<T> {
    for (let retries = 0; ; retries++) {
      if (this.#signal.aborted) throw new ProviderError("unreachable", `${action}: interrupted`);
      try {
        return await call();
      } catch (error) {
        const failure = asEc2Error(action, error);
        const passes =
          failure.kind === "throttled" ||
          failure.kind === "unreachable" ||
          (failure instanceof Ec2Error && (passing.has(failure.code) || isPassing(failure)));
        if (!passes || retries >= retriesMax || this.#signal.aborted) throw failure;
        await this.#pause(retries);
      }
    }
  }

  async #pause(doublings: number): Promise<void> {
    const ms = Math.min(pauseMsMax, this.#firstPauseMs * 2 ** doublings);
    await sleep(ms, undefined, { signal: this.#signal }).catch(() => {});
  }
}

function publishedOf(image: Ec2Image): Published {
  const { ImageId = "", Name = "", State = "", CreationDate = "" } = image;
  const disks = (image.BlockDeviceMappings ?? []).flatMap(({ Ebs }) => (Ebs ? [Ebs] : []));
  return {
    id: ImageId,
    name: Name,
    kind: tagOf(image, imageTags.kind),
    disk: tagOf(image, imageTags.disk),
    state: State,
    createdAt: Date.parse(CreationDate) || 0,
    snapshots: disks.flatMap(({ SnapshotId }) => SnapshotId ?? []),
    gib: disks[0]?.VolumeSize ?? 0,
  };
}

function snapshotOf(snapshot: Ec2Snapshot): Snapshot {
  return {
    id: snapshot.SnapshotId ?? "",
    state: snapshot.State ?? "pending",
    disk: tagOf(snapshot, imageTags.disk),
    startedAt: snapshot.StartTime?.getTime() ?? 0,
  };
}

function tagOf({ Tags }: Pick<Ec2Image, "Tags">, key: string): string {
  return Tags?.find(({ Key }) => Key === key)?.Value ?? "";
}

function ignore(...codes: string[]): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof Ec2Error && codes.includes(error.code))) throw error;
  };
}
