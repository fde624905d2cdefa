import { z } from "@hono/zod-openapi";
import type { Context } from "hono";
import type { Broker } from "../../broker/broker.ts";
import { wireLine } from "../../broker/wire.ts";
import type { LentMachine } from "../../broker/orders.ts";
import { MayflyError } from "../../domain/errors.ts";
import { addressOf } from "../address.ts";
import { BrokerWishSchema, OrderSchema } from "../schemas.ts";
import { refuseWhenDraining, type Env, type Web } from "../web.ts";
import { addRaw, answer, newApi, readJson, refusals, type Api } from "./routes.ts";

const LabelParam = z.object({ label: z.string().max(200) });
const security: [] = [];
/** Shorter than a connection may be silent, and than proxies usually wait. */
const waitSecondsMax = 50;

/**
 * The broker's own API. Anybody may ask, so it comes before everything that asks who is there; what
 * is lent is decided by what the forge says of the run.
 */
export function brokerRoutes(web: Web): Api {
  const api = newApi();

  addRaw(
    api,
    {
      method: "post",
      path: "/v1/broker",
      summary: "The broker in rr's wire format, both versions; also at /",
      security,
      request: {
        body: {
          required: true,
          content: { "application/json": { schema: z.looseObject({ operation: z.string() }) } },
        },
      },
      responses: {
        200: { description: "Done; of a create: every runner is registered" },
        default: {
          description: "Refused, with one line for the job's log",
          content: { "text/plain": { schema: z.string() } },
        },
      },
    },
    // Answered before the framework is entered, but where there is no broker.
    () => {
      const { message, hint } = noBroker();
      return new Response(wireLine({ message, hint }), { status: 404 });
    },
  );

  addRaw(
    api,
    {
      method: "post",
      path: "/v1/broker/orders",
      summary: "Borrow machines for a run in progress; the same again changes nothing",
      security,
      request: {
        body: { required: true, content: { "application/json": { schema: BrokerWishSchema } } },
      },
      responses: {
        202: answer("Lent; `wait` tells when the runners are registered", OrderSchema),
        ...refusals(400, 403, 404, 409, 413, 429, 503),
      },
    },
    async (c) => {
      const broker = admitted(web, c);
      refuseWhenDraining(web);
      const wish = await readJson(web, c, BrokerWishSchema);
      const run = String(wish.run);
      const label = wish.label ?? broker.labelOf(run, wish.attempt);
      if (label === null) {
        throw new MayflyError("invalid", "the labels here hold an id of the workflow's choice", {
          where: "label",
        });
      }
      const architectures = wish.architectures ?? broker.architectures;
      const { repository } = wish;
      const asked = { label, architectures, repository, run, isInLabel: false };
      return c.json(orderView(await broker.lend(asked, addressOf(c.env.incoming))), 202);
    },
  );

  addRaw(
    api,
    {
      method: "get",
      path: "/v1/broker/orders/{label}",
      summary: "How what was lent under a label stands",
      security,
      request: { params: LabelParam },
      responses: { 200: answer("The order", OrderSchema), ...refusals(404, 429) },
    },
    async (c) => {
      const broker = admitted(web, c);
      return c.json(orderView(await broker.machines(labelOf(c))), 200);
    },
  );

  addRaw(
    api,
    {
      method: "get",
      path: "/v1/broker/orders/{label}/wait",
      summary: "The same, once every runner is registered, or one of them is over",
      security,
      request: {
        params: LabelParam,
        query: z.object({
          seconds: z
            .string()
            .regex(/^[0-9]{1,3}$/)
            .optional()
            .openapi({
              description: `Answers after so long at the latest: 1 to ${waitSecondsMax}`,
            }),
        }),
      },
      responses: {
        200: answer("The order, ready or not", OrderSchema),
        ...refusals(404, 429, 503),
      },
    },
    async (c) => {
      const broker = admitted(web, c);
      const asked = Number(c.req.query("seconds") ?? waitSecondsMax);
      const seconds = Number.isInteger(asked) ? Math.min(Math.max(1, asked), waitSecondsMax) : 1;
      const address = addressOf(c.env.incoming);
      const order = await broker.changed(labelOf(c), address, seconds * 1000, web.draining);
      return c.json(orderView(order), 200);
    },
  );

  addRaw(
    api,
    {
      method: "delete",
      path: "/v1/broker/orders/{label}",
      summary: "Give machines back, once the run's jobs on them are over",
      security,
      request: { params: LabelParam },
      responses: {
        204: { description: "Nothing is lent under this label any more" },
        ...refusals(400, 404, 409, 429, 503),
      },
    },
    async (c) => {
      const broker = admitted(web, c);
      await broker.giveBack([labelOf(c)]);
      return c.body(null, 204);
    },
  );

  return api;
}

function admitted(web: Web, c: Context<Env>): Broker {
  if (web.broker === null) throw noBroker();
  web.broker.admit(addressOf(c.env.incoming));
  return web.broker;
}

function noBroker(): MayflyError {
  return new MayflyError("not_found", "this Mayfly lends no machines", {
    hint: "Its configuration needs a `broker`.",
  });
}

function labelOf(c: Context<Env>): string {
  return c.req.param("label") ?? "";
}

function orderView(machines: readonly LentMachine[]): z.input<typeof OrderSchema> {
  const [first] = machines;
  if (first === undefined) {
    throw new MayflyError("not_found", "nothing was lent under this label", { where: "label" });
  }
  const { label, repository, run, attempt, url } = first.loan;
  return {
    ...{ label, repository, run, attempt, url },
    state: machines.some(({ state }) => state === "over")
      ? "over"
      : machines.some(({ state }) => state === "waiting")
        ? "waiting"
        : "ready",
    machines: machines.map(({ loan, state, reason }) => ({
      architecture: loan.architecture,
      labels: [...loan.labels],
      job: loan.job,
      state,
      reason,
    })),
  };
}
