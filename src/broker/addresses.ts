import { isIPv6 } from "node:net";
import { BoundedMap } from "../forges/bounded-map.ts";

/** Requests that an address may make at once, and one more each so often. */
const burst = 30;
const oneEachMs = 1_000;
const addressesMax = 20_000;

/**
 * What each address may still ask. Those beyond the bound are forgotten, the quietest first: this
 * keeps one sender from being heard alone; that many send nonsense is what the caches are for.
 */
export class Addresses {
  readonly #now: () => number;
  readonly #levels = new BoundedMap<string, { readonly left: number; readonly at: number }>(
    addressesMax,
  );

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Takes one request's worth; false: there is none left. */
  take(address: string): boolean {
    const now = this.#now();
    const { left, at } = this.#levels.get(address) ?? { left: burst, at: now };
    const filled = Math.min(burst, left + Math.max(0, now - at) / oneEachMs);
    const isLeft = filled >= 1;
    this.#levels.set(address, { left: isLeft ? filled - 1 : filled, at: now });
    return isLeft;
  }
}

/** The name under which an address is counted: of IPv6 its /64, which is one connection's. */
export function addressKey(address: string | null): string {
  if (address === null) return "unknown";
  if (!isIPv6(address)) return address;
  const [head = "", tail = ""] = (address.split("%")[0] ?? "").split("::");
  const before = head === "" ? [] : head.split(":");
  const after = tail === "" ? [] : tail.split(":");
  const zeros = address.includes("::") ? 8 - before.length - after.length : 0;
  const groups = [...before, ...Array.from({ length: Math.max(0, zeros) }, () => "0"), ...after];
  const net = groups.slice(0, 4).map((group) => group.toLowerCase().replace(/^0+(?=.)/, ""));
  return `${net.join(":")}::/64`;
}
