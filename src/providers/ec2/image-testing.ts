import { createHash } from "node:crypto";

/*
 * What tests need of EBS's direct API beside what moto does: it takes any checksum, knows no client
 * token and no pending snapshot. The rules are those of "Write Amazon EBS snapshots with EBS direct
 * APIs".
 */

export interface EbsAnswer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
}

/** `PutSnapshotBlock` for a request of EBS's direct API; null for any other. */
export function ebsAction(method: string, path: string): string | null {
  if (method === "POST" && path === "/snapshots") return "StartSnapshot";
  if (method === "POST" && path.startsWith("/snapshots/completion/")) return "CompleteSnapshot";
  if (!/^\/snapshots\/snap-[^/]+\/blocks/.test(path)) return null;
  if (method === "PUT") return "PutSnapshotBlock";
  return /\/blocks\/\d/.test(path) ? "GetSnapshotBlock" : "ListSnapshotBlocks";
}

/** An error as EBS writes it. */
export function ebsProblem(code: string, status: number, message = "told to a test"): EbsAnswer {
  const headers = { "content-type": "application/json", "x-amzn-errortype": code };
  return { status, headers, body: JSON.stringify({ message }) };
}

/** What a request says, for EBS to judge. */
export interface EbsRequest {
  readonly action: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
}

/** The rules that moto does not know, by what was asked so far. */
export class EbsRules {
  /** The state of each snapshot that was started here. */
  readonly states = new Map<string, "pending" | "completed" | "error">();
  readonly #tokens = new Map<string, { body: string; answer: EbsAnswer }>();
  readonly #blocks = new Map<string, Map<number, Buffer>>();

  /** What EBS would say without moto's doing; null: moto is asked. */
  before({ action, path, headers, body }: EbsRequest): EbsAnswer | null {
    if (action === "StartSnapshot") {
      const known = this.#tokens.get(tokenOf(body));
      if (known === undefined) return null;
      const isSame = known.body === body.toString();
      return isSame ? known.answer : ebsProblem("ConflictException", 503);
    }
    const id = /snap-\w+/.exec(path)?.[0] ?? "";
    const state = this.states.get(id);
    if (state === undefined) return ebsProblem("ResourceNotFoundException", 404);
    if (action === "PutSnapshotBlock") {
      if (state !== "pending") return ebsProblem("ValidationException", 400, "not pending");
      const digest = createHash("sha256").update(body).digest();
      if (headers["x-amz-checksum"] !== digest.toString("base64")) {
        return ebsProblem("ValidationException", 400, "the checksum does not match");
      }
      const index = Number(/blocks\/(\d+)/.exec(path)?.[1]);
      this.#blocks.get(id)!.set(index, digest);
    }
    if (action === "CompleteSnapshot") {
      if (state !== "pending") return ebsProblem("ValidationException", 400, "not pending");
      const sorted = [...this.#blocks.get(id)!].sort(([a], [b]) => a - b).map(([, one]) => one);
      const whole = createHash("sha256").update(Buffer.concat(sorted)).digest("base64");
      const isWhole =
        headers["x-amz-changedblockscount"] === String(sorted.length) &&
        headers["x-amz-checksum"] === whole;
      this.states.set(id, isWhole ? "completed" : "error");
    }
    return null;
  }

  after({ action, body }: EbsRequest, answer: EbsAnswer): void {
    if (action !== "StartSnapshot") return;
    const id = (JSON.parse(answer.body) as { SnapshotId: string }).SnapshotId;
    this.#tokens.set(tokenOf(body), { body: body.toString(), answer });
    this.states.set(id, "pending");
    this.#blocks.set(id, new Map());
  }

  /** A listing of EC2's, where moto has every snapshot as completed. */
  shown(xml: string): string {
    return xml.replaceAll(
      /<item>(?:(?!<item>)[^])*?<snapshotId>(snap-\w+)<[^]*?<\/item>/g,
      (item, id) => {
        const state = this.states.get(id as string) ?? "completed";
        return item.replace(/<status>\w+</, `<status>${state}<`);
      },
    );
  }
}

function tokenOf(body: Buffer): string {
  return (JSON.parse(body.toString()) as { ClientToken: string }).ClientToken;
}

interface Registered {
  readonly id: string;
  readonly params: URLSearchParams;
  readonly createdAt: string;
}

/** Images that were registered here: moto forgets their tags, architecture, disks and whose they are. */
export class ImageRules {
  readonly #images = new Map<string, Registered>();
  #made = 0;

  /** EC2's error code for what moto would let pass; null: moto is asked. */
  refusal(action: string, params: URLSearchParams): string | null {
    const all = [...this.#images.values()];
    if (action === "RegisterImage") {
      const isThere = all.some((image) => image.params.get("Name") === params.get("Name"));
      return isThere ? "InvalidAMIName.Duplicate" : null;
    }
    if (action !== "DeleteSnapshot") return null;
    const isUsed = all.some((image) => snapshotOf(image) === params.get("SnapshotId"));
    return isUsed ? "InvalidSnapshot.InUse" : null;
  }

  after(action: string, params: URLSearchParams, xml: string): void {
    if (action === "DeregisterImage") this.#images.delete(params.get("ImageId") ?? "");
    const id = action === "RegisterImage" ? /<imageId>([^<]+)/.exec(xml)?.[1] : undefined;
    if (id === undefined) return;
    // Each a second after the one before, so that their order is known.
    const createdAt = new Date(Date.UTC(2026, 0, 1) + 1000 * this.#made++).toISOString();
    this.#images.set(id, { id, params, createdAt });
  }

  /** The answer to a question for the account's own images; null for any other. */
  shown(params: URLSearchParams): string | null {
    if (params.get("Owner.1") !== "self") return null;
    const items = [...this.#images.values()].filter((image) => fits(image, params)).map(itemOf);
    return `<DescribeImagesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>0</requestId><imagesSet>${items.join("")}</imagesSet></DescribeImagesResponse>`;
  }
}

function snapshotOf({ params }: Registered): string {
  return params.get("BlockDeviceMapping.1.Ebs.SnapshotId") ?? "";
}

function tagsOf({ params }: Registered): Map<string, string> {
  const found = new Map<string, string>();
  for (let n = 1; ; n++) {
    const key = params.get(`TagSpecification.1.Tag.${n}.Key`);
    if (key === null) return found;
    found.set(key, params.get(`TagSpecification.1.Tag.${n}.Value`) ?? "");
  }
}

function fits(image: Registered, asked: URLSearchParams): boolean {
  const has = new Map([...tagsOf(image)].map(([key, value]) => [`tag:${key}`, value]));
  has.set("name", image.params.get("Name") ?? "");
  has.set("architecture", image.params.get("Architecture") ?? "");
  has.set("state", "available");
  for (let n = 1; ; n++) {
    const name = asked.get(`Filter.${n}.Name`);
    if (name === null) return true;
    const wanted = asked.get(`Filter.${n}.Value.1`) ?? "";
    const pattern = wanted.split("*").map((part) => part.replaceAll(/\W/g, String.raw`\$&`));
    if (!new RegExp(`^${pattern.join(".*")}$`).test(has.get(name) ?? "")) return false;
  }
}

function itemOf(image: Registered): string {
  const { params, id, createdAt } = image;
  const tags = [...tagsOf(image)].map(
    ([key, value]) => `<item><key>${key}</key><value>${value}</value></item>`,
  );
  const disk = `<item><deviceName>${params.get("BlockDeviceMapping.1.DeviceName")}</deviceName><ebs><snapshotId>${snapshotOf(image)}</snapshotId><volumeSize>1</volumeSize></ebs></item>`;
  const about = {
    imageId: id,
    imageState: "available",
    architecture: params.get("Architecture"),
    name: params.get("Name"),
    rootDeviceName: params.get("RootDeviceName"),
    creationDate: createdAt,
  };
  const fields = Object.entries(about).map(([key, value]) => `<${key}>${value}</${key}>`);
  return `<item>${fields.join("")}<blockDeviceMapping>${disk}</blockDeviceMapping><tagSet>${tags.join("")}</tagSet></item>`;
}
