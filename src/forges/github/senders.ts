import { BlockList, isIP, isIPv6 } from "node:net";
import { MayflyError } from "../../domain/errors.ts";
import type { Client } from "./client.ts";
import { meta } from "./shapes.ts";

/** GitHub changes its networks every few months and announces nothing. */
const refreshMs = 3600_000;
const askMs = 6_000;

/**
 * Where webhooks may come from: networks of the configuration, or those that GitHub names as its
 * hooks' (`GET /meta`), refreshed each hour. While GitHub does not answer, the last list stands.
 */
export class Senders {
  readonly #client: Client;
  readonly #now: () => number;
  readonly #isAsked: boolean;
  #networks: BlockList | null;
  #askedAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | null = null;

  /** Throws `invalid` for a network that is none. */
  constructor(configured: "github" | readonly string[], client: Client, now: () => number) {
    this.#client = client;
    this.#now = now;
    this.#isAsked = configured === "github";
    this.#networks = configured === "github" ? null : networks(configured, true);
  }

  /** Throws `forbidden` for any other sender, `unavailable` when the list could never be had. */
  async check(address: string | null): Promise<void> {
    if (this.#isAsked && this.#now() - this.#askedAt > refreshMs) await this.#refresh();
    if (this.#networks === null) {
      throw new MayflyError("unavailable", "GitHub has not said yet where its webhooks come from");
    }
    const plain = (address ?? "").replace(/^::ffff:(?=\d+\.)/i, "");
    if (isIP(plain) && this.#networks.check(plain, family(plain))) return;
    throw new MayflyError("forbidden", "webhooks may not come from this address", {
      where: address ?? "an unknown address",
      hint: "Behind a proxy, Mayfly sees the proxy's address: put that into `addresses`, or leave it to the proxy.",
    });
  }

  async #refresh(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => (this.#asking = null));
    await this.#asking;
  }

  async #ask(): Promise<void> {
    const signal = AbortSignal.timeout(askMs);
    const question = { what: "asking where webhooks come from", schema: meta, signal };
    try {
      const { hooks } = await this.#client.ask("GET /meta", {}, question);
      if (hooks.length > 0) this.#networks = networks(hooks, false);
    } catch (error) {
      if (this.#networks === null) throw error;
    }
    this.#askedAt = this.#now();
  }
}

function networks(list: readonly string[], isStrict: boolean): BlockList {
  const blocks = new BlockList();
  for (const each of list) {
    const [network = "", bits] = each.split("/");
    const most = isIPv6(network) ? 128 : 32;
    const length = bits === undefined ? most : Number(bits);
    const isGood = isIP(network) !== 0 && Number.isInteger(length) && length >= 0 && length <= most;
    if (isGood) blocks.addSubnet(network, length, family(network));
    else if (isStrict) {
      throw new MayflyError("invalid", `${JSON.stringify(each)} is no network`, {
        where: "addresses",
        hint: "Write 192.0.2.0/24, 2001:db8::/32 or one address.",
      });
    }
  }
  return blocks;
}

function family(address: string): "ipv4" | "ipv6" {
  return isIPv6(address) ? "ipv6" : "ipv4";
}
