import type { StackOptions } from "./template.ts";

/*
 * What a stack costs, in US dollars of us-east-1. Other regions cost more; a free allowance of the
 * account is said but not taken off.
 */

export interface Price {
  readonly what: string;
  readonly usd: number;
  readonly per: string;
  readonly note: string;
  readonly source: string;
  /** When the price was told. */
  readonly asOf: string;
}

export const prices = {
  address: {
    what: "public IPv4 address of a machine",
    usd: 0.005,
    per: "hour",
    note: "billed by the second",
    source: "https://aws.amazon.com/vpc/pricing/",
    asOf: "since 1 February 2024",
  },
  disk: {
    what: "disk of a machine (gp3)",
    usd: 0.08,
    per: "GB and month",
    note: "billed by the second, at least a minute",
    source: "https://aws.amazon.com/ebs/pricing/",
    asOf: "2026",
  },
  snapshot: {
    what: "image, which is a snapshot",
    usd: 0.05,
    per: "GB and month",
    note: "of its blocks that are not empty",
    source: "https://aws.amazon.com/ebs/pricing/",
    asOf: "2026",
  },
  queue: {
    what: "request to the front's queue",
    usd: 0.4,
    per: "million",
    note: "a message of more than 64 KB counts once for each 64 KB; the first million of a month is free",
    source: "https://aws.amazon.com/sqs/pricing/",
    asOf: "June 2026",
  },
  call: {
    what: "call of the front",
    usd: 0.2,
    per: "million",
    note: "the first million of a month is free",
    source: "https://aws.amazon.com/lambda/pricing/",
    asOf: "May 2026",
  },
  compute: {
    what: "time of the front (arm64)",
    usd: 0.0000133334,
    per: "GB-second",
    note: "400,000 of a month are free",
    source: "https://aws.amazon.com/lambda/pricing/",
    asOf: "May 2026",
  },
} as const satisfies Record<string, Price>;

/** A manager asks an empty queue so often: two lines, each held open for twenty seconds. */
const emptyReceivesPerMonth = 2 * 3 * 60 * 24 * 30;

export interface IdleCost {
  readonly what: string;
  readonly usdPerMonth: number;
  readonly note: string;
}

/** What each part of a stack costs in a month in which nothing happens. */
export function idleCosts({
  front,
  zones,
}: Pick<StackOptions, "front" | "zones">): readonly IdleCost[] {
  const network = `${zones} public subnets, and no NAT gateway, which would cost by the hour`;
  return [
    { what: "network", usdPerMonth: 0, note: network },
    { what: "users, roles, policies", usdPerMonth: 0, note: "never cost" },
    ...(front === null
      ? []
      : [
          {
            what: "front: its queue",
            usdPerMonth: (emptyReceivesPerMonth / 1_000_000) * prices.queue.usd,
            note: `${emptyReceivesPerMonth.toLocaleString("en")} requests of each manager that waits at it; the account's first million of a month is free`,
          },
          { what: "front: its function", usdPerMonth: 0, note: "costs when it is called" },
        ]),
  ];
}

/** The manual's table. */
export function priceTable(): string {
  const rows = Object.values(prices).map(
    ({ what, usd, per, note, source, asOf }: Price) =>
      `| ${what} | ${usd.toFixed(10).replace(/0+$/, "")} per ${per} | ${note} | [${asOf}](${source}) |`,
  );
  return ["| what | US dollars | | source |", "| --- | --- | --- | --- |", ...rows].join("\n");
}
