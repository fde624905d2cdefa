import { ProviderError } from "../../domain/errors.ts";
import type { Architecture } from "../../domain/size.ts";
import { quote } from "../../domain/words.ts";
import type { Cloud } from "./cloud.ts";

/** How long an answer holds: a new image is taken up within this. */
const keptMs = 10 * 60_000;
const keptMax = 100;

export interface Image {
  readonly id: string;
  readonly rootDevice: string;
  /** The least its disk may have. */
  readonly diskGb: number;
}

/** Finds images by what the configuration calls them, and remembers them for a while. */
export class Images {
  readonly #cloud: Cloud;
  readonly #now: () => number;
  readonly #kept = new Map<string, { at: number; image: Promise<Image> }>();

  constructor(cloud: Cloud, now: () => number) {
    this.#cloud = cloud;
    this.#now = now;
  }

  /** Throws `invalid` for one that is not there, or of another architecture. */
  find(reference: string, architecture: Architecture): Promise<Image> {
    const key = `${architecture} ${reference}`;
    const known = this.#kept.get(key);
    if (known !== undefined && this.#now() - known.at < keptMs) return known.image;
    if (this.#kept.size >= keptMax) this.#kept.clear();
    const image = this.#find(reference, architecture);
    this.#kept.set(key, { at: this.#now(), image });
    // A failure is not kept.
    image.catch(() => this.#kept.delete(key));
    return image;
  }

  async #find(reference: string, architecture: Architecture): Promise<Image> {
    const debian = architecture === "x64" ? "amd64" : "arm64";
    const text = reference.replaceAll("{architecture}", debian);
    const wanted = architecture === "x64" ? "x86_64" : "arm64";
    const where = await this.#where(text);
    const images = await this.#cloud.image({ ...where, architecture: wanted });
    const newest = images
      .filter((image) => image.Architecture === wanted)
      .sort((a, b) => (a.CreationDate ?? "").localeCompare(b.CreationDate ?? ""))
      .at(-1);
    if (newest?.ImageId === undefined) {
      throw new ProviderError("invalid", `there is no image ${quote(text)} for ${architecture}`);
    }
    const rootDevice = newest.RootDeviceName ?? "/dev/xvda";
    const disk = newest.BlockDeviceMappings?.find((each) => each.DeviceName === rootDevice);
    return { id: newest.ImageId, rootDevice, diskGb: disk?.Ebs?.VolumeSize ?? 1 };
  }

  async #where(text: string): Promise<{ id: string } | { owner: string; name: string }> {
    if (/^ami-[0-9a-f]{8,17}$/.test(text)) return { id: text };
    const parameter = /^ssm:(\/[\w./-]{1,1000})$/.exec(text)?.[1];
    if (parameter !== undefined) {
      const id = await this.#cloud.parameter(parameter).catch((error: unknown) => {
        if (error instanceof ProviderError && error.kind === "gone") return null;
        throw error;
      });
      if (id !== null && /^ami-[0-9a-f]{8,17}$/.test(id)) return { id };
      throw new ProviderError("invalid", `the parameter ${quote(parameter)} names no image`);
    }
    const [, owner, name] =
      /^(\d{12}|amazon|self|aws-marketplace)\/([^\0]{1,300})$/.exec(text) ?? [];
    if (owner !== undefined && name !== undefined) return { owner, name };
    const rule = "write ami-ID, OWNER/NAME or ssm:PARAMETER";
    throw new ProviderError("invalid", `${quote(text)} is no image: ${rule}`);
  }
}
