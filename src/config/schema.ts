import { z } from "zod";
import { secret } from "../domain/secret.ts";
import type { Size } from "../domain/size.ts";
import { trustClasses } from "../domain/trust.ts";
import { brokerSchema } from "./broker.ts";
import { budget, duration, listen, size, warmWindow } from "./units.ts";

/** What a configuration must know of a kind of forge or provider: its own options. */
export interface Kind {
  readonly summary: string;
  readonly options: z.ZodType;
}

export interface Kinds {
  readonly forges: Readonly<Record<string, Kind>>;
  readonly providers: Readonly<Record<string, Kind>>;
}

/** The name of a pool, a forge or a provider: part of machines' names, so short and plain. */
const name = z.string().regex(/^[a-z0-9][a-z0-9-]{0,30}$/);
const label = z.string().min(1).max(256);
const labels = z.array(label).max(100);
const text = z.string().min(1).max(300);
const url = z
  .url({ protocol: /^https?$/ })
  .max(300)
  .meta({ examples: ["https://ci.example.org"] });
const count = z.int().min(0).max(10_000);

/** A key that may be left out. */
function key<T extends z.ZodType>(schema: T, description: string) {
  return schema.optional().describe(description);
}

/** A queue that something others reach puts webhooks into, as they are. */
const front = z
  .strictObject({
    queue: z
      .url({ protocol: /^https?$/ })
      .max(300)
      .meta({ examples: ["https://sqs.eu-central-1.amazonaws.com/123456789012/front"] })
      .describe("The address of a queue of Amazon's SQS."),
    region: key(
      z.string().regex(/^[a-z]{2}(-[a-z]+)+-\d$/, "a region, like eu-central-1"),
      "Its region. Default: as its address says.",
    ),
    accessKey: key(
      z.strictObject({
        id: secret.describe("The access key's id."),
        secret: secret.describe("The secret access key."),
      }),
      "Credentials. Default: what AWS's SDK finds, such as the role of this host.",
    ),
  })
  .refine(({ queue, region }) => region !== undefined || regionOfQueue(queue) !== null, {
    message: "its address tells no region; add `region`",
    path: ["queue"],
  });

/** `https://sqs.eu-central-1.amazonaws.com/123456789012/name`. */
export function regionOfQueue(queue: string): string | null {
  return /^https:\/\/sqs\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?\//.exec(queue)?.[1] ?? null;
}

/** The whole file as a schema. `base` fills in what a written size leaves open. */
export function configSchema(kinds: Kinds, base: Size) {
  return z
    .strictObject({
      listen: key(listen, "Where the pages and the API listen. Default: 127.0.0.1:8420."),
      url: key(url, "Where others, and machines elsewhere, reach this Mayfly. Default: `listen`."),
      state: key(text, "The folder that holds everything. Default: see “Where things are”."),
      store: key(
        z.strictObject({
          postgres: key(secret, "A PostgreSQL URL, for several replicas."),
          lease: key(
            duration("15s"),
            "After how long a replica that is not heard of is replaced, 2s or more. Default: 15s.",
          ),
        }),
        "Where jobs and machines are recorded. Default: embedded, in the state folder.",
      ),
      token: key(secret, "What a client shows to change anything. Default: made on first start."),
      front: key(
        front,
        "Where forges' webhooks wait for this Mayfly, that others need not reach. Default: nowhere.",
      ),
      forges: key(
        z.record(name, oneOf(kinds.forges)),
        "Where jobs come from, by names of your own. Default: `native`.",
      ),
      providers: key(
        z.record(name, oneOf(kinds.providers)),
        "What makes machines, by names of your own. Default: the best that works: `qemu`, `podman`, `host`.",
      ),
      pools: key(
        z.record(name, poolSchema(base)),
        "Classes of machines, by names of your own. Default: one, `default`.",
      ),
      broker: key(
        brokerSchema,
        "Lends machines to runs of a forge without a secret in any workflow.",
      ),
    })
    .describe("mayfly.yaml: every key is optional, and so is the file.");
}

export type ConfigFile = z.output<ReturnType<typeof configSchema>>;
export type PoolFile = z.output<ReturnType<typeof poolSchema>>;

function poolSchema(base: Size) {
  return z
    .strictObject({
      forge: key(
        name,
        "Whose jobs it takes: a name under `forges`, or a kind. Default: the only one.",
      ),
      provider: key(
        name,
        "What makes its machines: a name under `providers`, or a kind. Default: the only one.",
      ),
      labels: key(labels, "What its machines offer beside their size."),
      size: key(size(base), "The machine of a job that asks for none. Default: half of this one."),
      maximum: key(size(base), "The largest machine a label may ask for. Default: the provider's."),
      allow: key(labels, "Patterns (`*` is anything): each label of a job must match one."),
      deny: key(labels, "Patterns that no label of a job may match."),
      accept: key(
        z.array(z.enum(trustClasses)).min(1).max(2),
        "Whose code may run: `trusted`, `fork` (a stranger's). Default: trusted only.",
      ),
      perRepository: key(
        count.min(1),
        "Jobs of one repository that it takes on at once; more of them wait. Default: any number.",
      ),
      perOwner: key(count.min(1), "The same for all repositories of one owner."),
      max: key(count.min(1), "Machines at once, never more. Default: as many as fit here."),
      min: key(count, "Machines at once, never fewer. Default: 0."),
      warm: key(count, "Idle machines kept ready. Default: 0."),
      schedule: key(
        z.array(warmWindow).max(50),
        "Times at which `warm` has another value; the first that holds wins.",
      ),
      learn: key(
        budget,
        "What machines kept ready by a forecast may cost in 30 days. Default: none are kept.",
      ),
      image: key(text, "What its machines start from. Default: the provider's."),
      network: key(
        z.boolean(),
        "Whether a job reaches the network. Default: for a forge with runners of its own.",
      ),
      rerun: key(
        z.boolean(),
        "Whether a job whose machine its provider took back is run again, once. Default: true.",
      ),
      boot: key(duration("5m"), "How long a machine may take until it is up. Default: 5m."),
      idle: key(duration("5m"), "How long a machine waits for a job. Default: 5m."),
      timeout: key(
        duration("1h"),
        "How long a job may run. Default: 1h; for a forge with runners of its own 6h.",
      ),
    })
    .prefault({});
}

/** An entry names its kind by its one key: `box: { podman: { … } }`. */
function oneOf(kinds: Readonly<Record<string, Kind>>) {
  const shape = Object.fromEntries(
    Object.entries(kinds).map(([kind, { options, summary }]) => [
      kind,
      strict(options).optional().describe(summary),
    ]),
  );
  return z
    .strictObject(shape)
    .refine((entry) => Object.keys(entry).length === 1, {
      message: `must name exactly one kind; known are ${Object.keys(kinds).join(", ")}`,
    })
    .meta({ minProperties: 1, maxProperties: 1 });
}

/** A kind's options are its own schema, but a misspelt key is never passed over. */
function strict(options: z.ZodType): z.ZodType {
  return options instanceof z.ZodObject ? options.strict() : options;
}
