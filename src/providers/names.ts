import { ProviderError } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";
import type { Capabilities, MachineSpec } from "./provider.ts";

/** A host name's length: a machine's name is one inside it. */
const nameLengthMax = 63;

/** True when `name` is a machine's name of this installation: `abc-` does not begin `abcd-1`. */
export function isOurs(installation: string, name: string): boolean {
  if (name.length > nameLengthMax || !name.startsWith(`${installation}-`)) return false;
  return /^[a-z0-9]+(-[a-z0-9]+)+$/.test(name);
}

/** Throws `invalid` unless `name` is ours, so that no name reaches a path or a tool unchecked. */
export function refuseName(installation: string, name: string): void {
  if (isOurs(installation, name)) return;
  const rule = `"${installation}-" and then [a-z0-9-], at most ${nameLengthMax} in all`;
  throw new ProviderError("invalid", `${quote(name)} is no name of a machine here: ${rule}`);
}

/** Throws `invalid` when no machine of these capabilities can be what `spec` asks for. */
export function refuseUnfit(spec: MachineSpec, lends: Capabilities): void {
  const refuse = (reason: string): never => {
    throw new ProviderError("invalid", reason);
  };
  const { size } = spec;
  if (!lends.architectures.includes(size.architecture)) {
    refuse(`no machine here is ${size.architecture}; they are ${lends.architectures.join(", ")}`);
  }
  for (const what of ["cpu", "memoryMb", "diskGb", "gpu"] as const) {
    const least = what === "gpu" ? 0 : Number.MIN_VALUE;
    if (!(Number.isFinite(size[what]) && size[what] >= least)) refuse(`${what} is ${size[what]}`);
    if (size[what] > lends.maximum[what]) {
      refuse(`${what} is ${size[what]}, and the largest machine here has ${lends.maximum[what]}`);
    }
  }
  const stranger = spec.trust.find((trust) => !lends.accepts.includes(trust));
  if (stranger !== undefined) {
    refuse(`a machine here is not isolated well enough for a ${stranger} job`);
  }
}

/** The installation of checks: it has no machines, so that a check can meddle with none. */
export const nobody = "nobody";
