import { ProviderError } from "../../domain/errors.ts";
import { quote } from "../../domain/words.ts";
import type { Architecture, Size } from "../../domain/size.ts";
import type { Ec2Options } from "./options.ts";

/** An instance type: what it has and what AWS's list says it costs on demand. */
export interface InstanceType {
  readonly name: string;
  readonly architecture: Architecture;
  readonly cpu: number;
  readonly memoryMb: number;
  readonly usdPerHour: number;
  readonly isMetal: boolean;
}

interface Family {
  readonly architecture: Architecture;
  readonly memoryGbPerCpu: number;
  /** Of the size `large`, two vCPUs; the other sizes cost in proportion. */
  readonly usdPerHour: number;
  readonly sizes: readonly string[];
  /** Sizes of bare metal with their vCPUs; only taken when named. */
  readonly metal: Readonly<Record<string, number>>;
}

const intel = ["large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge"];
const fifth = ["large", "xlarge", "2xlarge", "4xlarge", "12xlarge", "24xlarge"];

/** Linux on demand in us-east-1, of August 2026. Other regions cost more; `types` may say how much. */
const families: Readonly<Record<string, Family>> = {
  c5: family("x64", 2, 0.085, [...fifth, "9xlarge", "18xlarge"], { metal: 96 }),
  c6i: family("x64", 2, 0.085, [...intel, "24xlarge", "32xlarge"], { metal: 128 }),
  c7i: family("x64", 2, 0.08925, [...intel, "24xlarge", "48xlarge"], {
    "metal-24xl": 96,
    "metal-48xl": 192,
  }),
  m5: family("x64", 4, 0.096, [...fifth, "8xlarge", "16xlarge"], { metal: 96 }),
  c6g: family("arm64", 2, 0.068, intel, { metal: 64 }),
  c7g: family("arm64", 2, 0.0725, intel, { metal: 64 }),
  m7g: family("arm64", 4, 0.0816, intel, { metal: 64 }),
};

function family(
  architecture: Architecture,
  memoryGbPerCpu: number,
  usdPerHour: number,
  sizes: readonly string[],
  metal: Readonly<Record<string, number>>,
): Family {
  return { architecture, memoryGbPerCpu, usdPerHour, sizes, metal };
}

function cpusOf(size: string): number {
  if (size === "large") return 2;
  return 4 * Number(/^(\d*)xlarge$/.exec(size)?.[1] || 1);
}

function typeOf(familyName: string, of: Family, size: string): InstanceType {
  const cpu = of.metal[size] ?? cpusOf(size);
  return {
    name: `${familyName}.${size}`,
    architecture: of.architecture,
    cpu,
    memoryMb: cpu * of.memoryGbPerCpu * 1024,
    usdPerHour: (of.usdPerHour * cpu) / 2,
    isMetal: size in of.metal,
  };
}

/** The types that `types` of the configuration means, the cheapest first. Throws `invalid`. */
export function typesOf(wanted: Ec2Options["types"]): readonly InstanceType[] {
  const found = new Map<string, InstanceType>();
  for (const entry of wanted) {
    if (typeof entry !== "string") {
      found.set(entry.name, { ...entry, isMetal: entry.name.includes(".metal") });
      continue;
    }
    const [name = "", size] = entry.split(".");
    const known = Object.hasOwn(families, name) ? families[name] : undefined;
    const sizes = size === undefined ? known?.sizes : [size];
    const allowed = [...(known?.sizes ?? []), ...Object.keys(known?.metal ?? {})];
    if (known === undefined || sizes?.every((each) => allowed.includes(each)) !== true) {
      const what = `Mayfly does not know the instance type ${quote(entry)} by itself`;
      const mend = "say its name, architecture, cpu, memoryMb and usdPerHour";
      throw new ProviderError("invalid", `${what}: ${mend}`);
    }
    for (const each of sizes) {
      const type = typeOf(name, known, each);
      if (!found.has(type.name)) found.set(type.name, type);
    }
  }
  // Sorting is stable: of those with one price, the first named comes first.
  return [...found.values()].sort((a, b) => a.usdPerHour - b.usdPerHour);
}

/** Those of them that a job of this size fits in, in the same order. */
export function fitting(types: readonly InstanceType[], size: Size): readonly InstanceType[] {
  return types.filter(
    ({ architecture, cpu, memoryMb }) =>
      architecture === size.architecture && cpu >= size.cpu && memoryMb >= size.memoryMb,
  );
}

/** Every type that is known by itself; for tests against AWS's own list. */
export function knownTypes(): readonly InstanceType[] {
  return Object.entries(families).flatMap(([name, of]) =>
    [...of.sizes, ...Object.keys(of.metal)].map((size) => typeOf(name, of, size)),
  );
}
