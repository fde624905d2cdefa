import type { Architecture } from "./size.ts";
import { nearest, quote } from "./words.ts";

/*
 * The label grammar: how one label asks for a machine of a certain size. Three forms, all ignoring
 * case:
 *
 *   preset   small | medium | large | xlarge | <n>cpu-linux-(x64|arm64)
 *   compact  4cpu8gbram50gbssd, 2cpu-4gb, 8vcpu_32gbmem_1gpu: any order, each kind once
 *   keyed    mayfly=<run id>/cpu=4/ram=8/disk=50/gpu=1/arch=arm64/spot=false/image=debian-13
 *
 * Labels are written by whoever opens a pull request. Nothing here trusts them, and nothing that is
 * meant as a size but cannot be understood is passed over in silence.
 */

/** What a job's labels ask of its machine. What is absent is left to the pool. */
export interface CapacityRequest {
  readonly cpu?: number;
  readonly memoryMb?: number;
  readonly diskGb?: number;
  readonly gpu?: number;
  readonly architecture?: Architecture;
  readonly spot?: boolean;
  readonly image?: string;
  /** Makes a job's labels its own, so that no other run's job can take its machine. */
  readonly runId?: string;
}

/** Why not, in words for whoever wrote the label. */
export interface Refusal {
  readonly refusal: string;
}

/** The parts of a size that are numbers. */
export type Amount = "cpu" | "memoryMb" | "diskGb" | "gpu";

/** Beyond these a number is a slip or mischief, whatever a pool's own maximum. */
export const absoluteLimits: Readonly<Record<Amount, number>> = {
  cpu: 1024,
  memoryMb: 16 * 1024 * 1024,
  diskGb: 64 * 1024,
  gpu: 64,
};

/** What a person calls each field of a request. */
export const fieldWords: Readonly<Record<keyof CapacityRequest, string>> = {
  cpu: "cpu",
  memoryMb: "memory",
  diskGb: "disk",
  gpu: "gpu",
  architecture: "architecture",
  spot: "spot",
  image: "image",
  runId: "run id",
};

/** A label's request, why it is refused, or null for a plain label that asks for no size. */
export function readLabel(label: string): CapacityRequest | Refusal | null {
  return readPreset(label.toLowerCase()) ?? readKeyed(label) ?? readCompact(label.toLowerCase());
}

const presetCpus = new Map([
  ["small", 2],
  ["medium", 4],
  ["large", 8],
  ["xlarge", 16],
]);

/** A preset has 2 GB of memory and 10 GB of disk for each cpu. */
function readPreset(text: string): CapacityRequest | Refusal | null {
  const known = presetCpus.get(text);
  if (known !== undefined) return presetOf(known);

  const [, digits, arch] = /^(\d+)cpu-linux-(x64|arm64)$/.exec(text) ?? [];
  if (digits === undefined) return null;
  const cpu = readNumber(digits, { amount: "cpu", scale: 1 });
  return typeof cpu === "number" ? { ...presetOf(cpu), architecture: arch as Architecture } : cpu;
}

function presetOf(cpu: number): CapacityRequest {
  return { cpu, memoryMb: cpu * 2 * 1024, diskGb: cpu * 10 };
}

const compactUnits = ["cpu", "vcpu", "gpu", "gb", "gbram", "gbmem", "mbram", "gbdisk", "gbssd"];

/**
 * A label that begins with `<number><letters>` parts, one of them a size, is meant as a size; then
 * all of it has to be one. So `2cpu-4bg` is refused, and `2xlarge` or `3.12` is a plain label.
 */
function readCompact(text: string): CapacityRequest | Refusal | null {
  const parts = Array.from(text.matchAll(/[-_]?(\d+)([a-z]+)/gy), (match) => {
    const [whole, digits = "", letters = ""] = match;
    const [, scale = "", name = ""] = /^(gb|mb)?(.*)$/.exec(letters) ?? [];
    // A bare `gb` is memory: that is what people mean by `2cpu-4gb`.
    return {
      whole,
      digits,
      letters,
      unit: unitOf(scale, scale !== "" && name === "" ? "ram" : name),
    };
  });
  if (!/^\d/.test(text) || !parts.some((part) => part.unit !== null)) return null;

  const request: { [A in Amount]?: number } = {};
  for (const { digits, letters, unit } of parts) {
    if (unit === null) return { refusal: unknownWord("unit", letters, compactUnits) };
    if (request[unit.amount] !== undefined) return { refusal: askedTwice(unit.amount) };
    const value = readNumber(digits, unit);
    if (typeof value !== "number") return value;
    request[unit.amount] = value;
  }
  const rest = text.slice(parts.reduce((length, part) => length + part.whole.length, 0));
  if (rest === "") return request;
  return { refusal: `${quote(rest)} is no size; write it like "4cpu-8gbram-50gbssd"` };
}

const keys = ["cpu", "ram", "disk", "gpu", "arch", "spot", "image"];

/** The run id may be left out: `mayfly/cpu=4`. Only it and an image's name keep their case. */
function readKeyed(label: string): CapacityRequest | Refusal | null {
  const [head = "", ...pairs] = label.split("/");
  const [isKeyed, , runId] = /^mayfly(=(.*))?$/i.exec(head) ?? [];
  if (isKeyed === undefined || (runId === undefined && pairs.length === 0)) return null;

  const request: CapacityRequest = {};
  if (runId !== undefined) {
    if (!/^[a-z0-9][a-z0-9._-]{0,63}$/i.test(runId)) {
      return { refusal: `a run id is 1 to 64 letters, digits, ".", "_" or "-"` };
    }
    Object.assign(request, { runId });
  }
  for (const pair of pairs) {
    const asked = readPair(pair);
    if ("refusal" in asked) return asked;
    for (const field of Object.keys(asked) as (keyof CapacityRequest)[]) {
      if (request[field] !== undefined) return { refusal: askedTwice(field) };
    }
    Object.assign(request, asked);
  }
  return request;
}

function readPair(pair: string): CapacityRequest | Refusal {
  const [key = "", ...values] = pair.split("=");
  const value = values.join("=");
  switch (key.toLowerCase()) {
    case "arch":
      return readArchitecture(value);
    case "spot":
      if (/^(true|false)$/i.test(value)) return { spot: value.toLowerCase() === "true" };
      return { refusal: `spot is "true" or "false", not ${quote(value)}` };
    case "image":
      if (/^[a-z0-9][a-z0-9._:@+-]{0,99}$/i.test(value)) return { image: value };
      return { refusal: `an image's name is 1 to 100 letters, digits or any of "._:@+-"` };
    default:
      return readAmountPair(key.toLowerCase(), value.toLowerCase());
  }
}

/** `cpu=4`; `ram=8` and `disk=50` are in GB, `ram=512mb` says otherwise. */
function readAmountPair(key: string, value: string): CapacityRequest | Refusal {
  const amount = amountNames.get(key);
  if (amount === undefined) {
    return { refusal: unknownWord("key", key, keys, [...keys, ...amountNames.keys()]) };
  }
  const [, digits = "", scale = amount === "memoryMb" || amount === "diskGb" ? "gb" : ""] =
    /^(\d+)(gb|mb)?$/.exec(value) ?? [];
  const unit = unitOf(scale, key);
  if (digits === "" || unit === null) {
    return { refusal: `${quote(value)} is no amount of ${key}; write it like "${key}=4"` };
  }
  const number = readNumber(digits, unit);
  return typeof number === "number" ? { [amount]: number } : number;
}

const architectures = new Map<string, Architecture>([
  ["x64", "x64"],
  ["amd64", "x64"],
  ["x86_64", "x64"],
  ["arm64", "arm64"],
  ["aarch64", "arm64"],
]);

function readArchitecture(word: string): CapacityRequest | Refusal {
  const architecture = architectures.get(word.toLowerCase());
  return architecture === undefined
    ? { refusal: unknownWord("architecture", word, ["x64", "arm64"]) }
    : { architecture };
}

interface Unit {
  readonly amount: Amount;
  /** How many of the amount's own unit (MB, GB) make one of this. */
  readonly scale: number;
}

/** What each amount may be called: as a key, and after the unit in a compact label. */
const amountNames = new Map<string, Amount>([
  ["cpu", "cpu"],
  ["cpus", "cpu"],
  ["vcpu", "cpu"],
  ["vcpus", "cpu"],
  ["ram", "memoryMb"],
  ["mem", "memoryMb"],
  ["memory", "memoryMb"],
  ["disk", "diskGb"],
  ["ssd", "diskGb"],
  ["gpu", "gpu"],
  ["gpus", "gpu"],
]);

const scales: Readonly<Record<Amount, Readonly<Record<string, number>>>> = {
  cpu: { "": 1 },
  memoryMb: { gb: 1024, mb: 1 },
  diskGb: { gb: 1 },
  gpu: { "": 1 },
};

function unitOf(scaleWord: string, name: string): Unit | null {
  const amount = amountNames.get(name);
  const scale = amount && scales[amount][scaleWord];
  return amount === undefined || scale === undefined ? null : { amount, scale };
}

function readNumber(digits: string, unit: Unit): number | Refusal {
  const value = /^[1-9]\d{0,8}$/.test(digits) ? Number(digits) * unit.scale : NaN;
  if (value <= absoluteLimits[unit.amount]) return value;
  const most = absoluteLimits[unit.amount] / unit.scale;
  const word = fieldWords[unit.amount];
  return { refusal: `${word} is a whole number from 1 to ${most}, not ${quote(digits)}` };
}

function unknownWord(
  kind: string,
  word: string,
  known: readonly string[],
  understood = known,
): string {
  const meant = nearest(word, understood);
  const hint = meant === null ? `known are ${known.join(", ")}` : `did you mean "${meant}"?`;
  return `unknown ${kind} ${quote(word)}; ${hint}`;
}

function askedTwice(field: keyof CapacityRequest): string {
  const hint = field === "memoryMb" ? ` (a bare "gb" is memory; write a disk as "50gbssd")` : "";
  return `asks for ${fieldWords[field]} twice${hint}`;
}
