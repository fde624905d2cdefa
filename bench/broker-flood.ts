import { load, request } from "./load.ts";

/* What is no order, from a process of its own: `PORT COUNT PER-SECOND`. Says how it was answered. */
const [port = 0, count = 0, perSecond = 0] = process.argv.slice(2).map(Number);

/** Every kind that there is, each from an address of its own. */
const requests = Array.from({ length: count }, (_, n) => {
  const label = `mayfly_${1_000_000_000 + n}_00000001`;
  const kinds = [
    JSON.stringify({ operation: "create", architectures: ["x86_64"], label }),
    JSON.stringify({ operation: "create", architecture: "x86_64", label: `${label}_x86_64` }),
    JSON.stringify({ operation: "destroy", label }),
    JSON.stringify({ operation: "create", architectures: ["x86_64"], label: `${label}; rm -rf /` }),
    JSON.stringify({ operation: "destroy", label: "" }),
    "{",
  ];
  const from = `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
  return request("/", { "x-forwarded-for": from }, kinds[n % kinds.length] ?? "");
});
const { seconds, statuses } = await load(port, requests, { connections: 50, perSecond });
process.stdout.write(JSON.stringify({ seconds, statuses: Object.fromEntries(statuses) }));
