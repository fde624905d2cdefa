import { counted } from "../domain/words.ts";
import { idleCosts, prices } from "../providers/ec2/infrastructure/costs.ts";
import type { Change } from "../providers/ec2/infrastructure/stack.ts";
import type { StackOptions } from "../providers/ec2/infrastructure/template.ts";
import { table } from "./table.ts";
import { columnsOf, painter } from "./terminal.ts";

export interface Plan {
  readonly name: string;
  readonly region: string;
  readonly isNew: boolean;
  readonly changes: readonly Change[];
  readonly options: StackOptions;
}

/** What is going to be made, changed or taken away, and what it costs then. */
export function planLines(plan: Plan): readonly string[] {
  const { name, region, isNew, changes, options } = plan;
  const paint = painter(process.stdout);
  const what = isNew ? "new" : `there, ${counted(changes.length, "change")}`;
  const signs = { add: "+", alter: "~", remove: "-" } as const;
  const tints = { add: "green", alter: "yellow", remove: "red" } as const;
  const costs = idleCosts(options);
  const sum = costs.reduce((total, { usdPerMonth }) => total + usdPerMonth, 0);
  const rows = table(
    costs,
    [
      { title: "PART", text: (cost) => cost.what },
      { title: "USD A MONTH", text: (cost) => cost.usdPerMonth.toFixed(2), align: "right" },
      { title: "NOTE", text: (cost) => cost.note },
    ],
    columnsOf(process.stdout),
    paint,
  );
  const { address, disk } = prices;
  return [
    `${paint("bold", "stack")}   ${name} in ${region} (${what})`,
    ...changes.map(
      ({ change, resource, type }) =>
        `${paint(tints[change], signs[change])} ${resource.padEnd(20)} ${type}`,
    ),
    `${paint("bold", "cost")}    ${sum.toFixed(2)} US dollars a month while nothing runs`,
    ...rows,
    `A machine costs its instance's price, ${address.usd} an hour for its address and ${disk.usd} a GB and month for its disk.`,
  ];
}
