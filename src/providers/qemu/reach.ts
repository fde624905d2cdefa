import { readFile } from "node:fs/promises";
import { isIPv4 } from "node:net";

/*
 * What `gate.pl` lets strangers' machines reach beside the public internet.
 */

/** The network that QEMU plays, this host's loopback, and what is no single machine's address. */
const never = /^(0|127|22[4-9]|2[34]\d|25[0-5])\.|^10\.0\.2\./;

/** Why an entry of the `reach` option will not do; null when it does: `ADDRESS` or `ADDRESS:PORT`. */
export function reachFault(entry: string): string | null {
  const [address = "", port, ...more] = entry.split(":");
  if (!isIPv4(address) || more.length > 0) return "must be an IPv4 address, or one with :PORT";
  if (never.test(address)) return "is an address that no machine can be let out to";
  if (port === undefined) return null;
  const isPort = /^[1-9]\d{0,4}$/.test(port) && Number(port) <= 65_535;
  return isPort ? null : "has a port that is none: from 1 to 65535";
}

const nonlocalBind = "/proc/sys/net/ipv4/ip_nonlocal_bind";

/** Why the gate would take every address for the host's own, so that nothing is reached; else null. */
export async function gateFault(path = nonlocalBind): Promise<string | null> {
  const setting = await readFile(path, "utf8").catch(() => "0");
  return setting.trim() === "0" ? null : "net.ipv4.ip_nonlocal_bind hides which addresses are ours";
}

export const gateMend = "sysctl net.ipv4.ip_nonlocal_bind=0";
