import { MayflyError } from "./errors.ts";
import type { CapacityRequest } from "./label-grammar.ts";
import { parseLabels } from "./labels.ts";
import type { Architecture, Size } from "./size.ts";
import { quote } from "./words.ts";

/** The machine that a request gets: what it leaves open is as in `base`. */
export function sizeFor(request: CapacityRequest, base: Size): Size {
  return {
    cpu: request.cpu ?? base.cpu,
    memoryMb: request.memoryMb ?? base.memoryMb,
    diskGb: request.diskGb ?? base.diskGb,
    gpu: request.gpu ?? base.gpu,
    architecture: request.architecture ?? base.architecture,
  };
}

/**
 * Whether a machine of `size` is no larger than `maximum`. Amounts only: which architectures there
 * are is a list of its own.
 */
export function fits(size: Size, maximum: Size): boolean {
  return excess(size, maximum) === null;
}

/** What of `size` is beyond `maximum`, in words: `32 cpu asked, 8 at most`. Null: it fits. */
export function excess(size: Size, maximum: Size): string | null {
  if (size.cpu > maximum.cpu) return `${size.cpu} cpu asked, ${maximum.cpu} at most`;
  if (size.memoryMb > maximum.memoryMb) {
    return `${memoryText(size.memoryMb)} memory asked, ${memoryText(maximum.memoryMb)} at most`;
  }
  if (size.diskGb > maximum.diskGb) {
    return `${size.diskGb} GB disk asked, ${maximum.diskGb} GB at most`;
  }
  if (size.gpu > maximum.gpu) return `${size.gpu} gpu asked, ${maximum.gpu} at most`;
  return null;
}

/** `4 cpu, 8 GB, 50 GB disk, x64`; a gpu is named where there is one. */
export function sizeText(size: Size): string {
  const gpu = size.gpu > 0 ? [`${size.gpu} gpu`] : [];
  const parts = [`${size.cpu} cpu`, memoryText(size.memoryMb), `${size.diskGb} GB disk`, ...gpu];
  return [...parts, size.architecture].join(", ");
}

/**
 * A size as a configuration writes it: anything of the label grammar that is a size, and an
 * architecture's name, parted by spaces: `2cpu4gb`, `large arm64`. What it leaves open is as in
 * `base`. Throws `invalid` with the reason.
 */
export function parseSize(text: string, base: Size): Size {
  const hint = `write it like "2cpu4gb" or "large arm64"`;
  const parsed = parseLabels(text.split(/\s+/).filter((word) => word !== ""));
  if ("refusal" in parsed) throw new MayflyError("invalid", parsed.refusal, { hint });

  const { request, plain } = parsed;
  const architecture = request.architecture ?? plain.find(isArchitecture) ?? base.architecture;
  const stray = plain.find((word) => word !== architecture);
  if (stray !== undefined) throw new MayflyError("invalid", `${quote(stray)} is no size`, { hint });
  if (request.spot !== undefined || request.image !== undefined || request.runId !== undefined) {
    throw new MayflyError("invalid", "a size names no image, spot or run id", { hint });
  }
  if (Object.keys(request).length + plain.length === 0) {
    throw new MayflyError("invalid", "the size is empty", { hint });
  }
  return { ...sizeFor(request, base), architecture };
}

function isArchitecture(word: string): word is Architecture {
  return word === "x64" || word === "arm64";
}

function memoryText(memoryMb: number): string {
  return memoryMb % 1024 === 0 ? `${memoryMb / 1024} GB` : `${memoryMb} MB`;
}
