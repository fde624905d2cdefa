import { MayflyError } from "../domain/errors.ts";
import type { StackOptions } from "../providers/ec2/infrastructure/template.ts";
import type { CommonFlags } from "./program.ts";

/** The flags of `mayfly aws`, as they were typed. */
export interface AwsFlags extends CommonFlags {
  readonly region?: string;
  readonly name?: string;
  readonly zones?: string;
  readonly installation?: string;
  readonly manager?: string;
  readonly parameter?: boolean;
  /** `true`: as many at once as is the default; `false`: no front. */
  readonly front?: string | boolean;
  readonly dryRun?: true;
  readonly yes?: true;
}

const defaultAtOnce = 5;
const managers = ["user", "role", "none"] as const;

export function nameOf({ name = "mayfly" }: AwsFlags): string {
  if (/^[A-Za-z][A-Za-z0-9-]{0,99}$/.test(name)) return name;
  throw wrong("--name", "letters, digits and dashes, a letter first, at most 100");
}

/** The region that is named, or that AWS's own tools would take. */
export function regionOf({ region }: AwsFlags, environment: NodeJS.ProcessEnv): string {
  const { AWS_REGION, AWS_DEFAULT_REGION } = environment;
  const chosen = region ?? (AWS_REGION || AWS_DEFAULT_REGION);
  if (chosen !== undefined && /^[a-z]{2}(-[a-z]+)+-\d$/.test(chosen)) return chosen;
  if (chosen !== undefined) throw wrong("--region", "a region, such as eu-central-1");
  throw wrong("--region", "no region is named: give one, such as eu-central-1, or set AWS_REGION");
}

/** What is wanted: what is there already, but for what the flags say. */
export function optionsFrom(flags: AwsFlags, before: StackOptions): StackOptions {
  const { zones, installation, manager, parameter, front } = flags;
  return {
    zones: zones === undefined ? before.zones : whole("--zones", zones, 1, 6),
    installation: installation === undefined ? before.installation : installationOf(installation),
    manager: manager === undefined ? before.manager : managerOf(manager),
    parameter: parameter ?? before.parameter,
    front: frontOf(front, before.front),
  };
}

function frontOf(flag: AwsFlags["front"], before: number | null): number | null {
  if (flag === undefined) return before;
  if (flag === false) return null;
  return flag === true ? (before ?? defaultAtOnce) : whole("--front", flag, 0, 1_000);
}

function installationOf(text: string): string | null {
  if (text === "any") return null;
  if (/^[a-z0-9]{1,30}$/.test(text)) return text;
  throw wrong("--installation", "the first word of a machine's name, or any");
}

function managerOf(text: string): StackOptions["manager"] {
  const found = managers.find((one) => one === text);
  if (found !== undefined) return found;
  throw wrong("--manager", `one of ${managers.join(", ")}`);
}

function whole(flag: string, text: string, least: number, most: number): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw wrong(flag, `a whole number from ${least} to ${most}`);
}

function wrong(where: string, message: string): MayflyError {
  return new MayflyError("invalid", message, { where });
}
