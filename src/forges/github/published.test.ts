import assert from "node:assert/strict";
import { test } from "node:test";
import { Ajv, type ValidateFunction } from "ajv";
import addFormats from "ajv-formats";
import {
  githubApi,
  githubExamples,
  githubWebhooks,
  publishedJson,
} from "../../../test/published.ts";
import { sampleRunner } from "../../domain/samples.ts";
import { openWorld } from "./fake/world.ts";
import { jobEventShape } from "./fake/shapes.ts";

const never = new AbortController().signal;
const accept = { accept: ["trusted"], jobDeadlineSeconds: 60 } as const;

/** Validators for what a document says of answers, by a pointer into it. */
function validators(document: unknown): (pointer: string) => ValidateFunction {
  // Their document is of OpenAPI 3.0: JSON Schema but for a few words.
  const ajv = new Ajv({ strict: false, allErrors: true, logger: false });
  addFormats.default(ajv);
  ajv.addSchema(withoutNullable(document) as object, "api");
  return (pointer) => ajv.compile({ $ref: `api#${pointer}` });
}

/** OpenAPI 3.0 says `nullable` also where JSON Schema's validator wants a type beside it. */
function withoutNullable(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutNullable);
  if (typeof value !== "object" || value === null) return value;
  const { nullable, ...rest } = value as Record<string, unknown>;
  const plain = Object.fromEntries(
    Object.entries(rest).map(([key, each]) => [key, withoutNullable(each)]),
  );
  if (nullable !== true) return nullable === undefined ? plain : { ...plain, nullable };
  return { anyOf: [plain, { type: "null" }] };
}

function pointerTo(...parts: readonly string[]): string {
  return parts.map((part) => `/${part.replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
}

test("what the fake answers is what GitHub's OpenAPI document says", async (t) => {
  const found = await publishedJson(githubApi, "generated/api.github.com.json");
  if ("why" in found) return t.skip(found.why);
  const validator = validators(found.json);
  let at = Date.now();
  const options = { group: "builders" };
  const world = await openWorld({ now: () => at, keyNow: Date.now, as: "app", options });
  const { forge, fake } = world;
  try {
    const job = await world.queue({ labels: ["linux"], trust: "trusted" });
    await world.queue({ labels: ["linux"], trust: "fork" });
    await forge.verify(await world.event(job));
    const [known] = await forge.poll(never);
    assert.ok(known !== undefined && forge.handOver !== undefined);
    fake.state.deliveries.push({
      id: 9,
      guid: "0b989ba4-242f-11e5-81e1-c7b6966d2516",
      at: Date.now() - 120_000,
      event: "workflow_job",
      action: "queued",
      status: 500,
      isAgain: false,
    });
    await forge.handOver(sampleRunner({ name: "m1-p-1", labels: ["linux"] }), accept, never);
    await world.start(job, "m1-p-1");
    await forge.registrations(never);
    await forge.remove("m1-p-1", never);
    await forge.find?.(known, never);
    await world.end(job, "success");
    await forge.find?.(known, never);
    const widget = fake.state.repository("widget");
    const cut = fake.state.job(fake.state.run(widget, widget), ["linux"]);
    cut.annotations.push("The runner has received a shutdown signal.");
    fake.state.end(cut, "cancelled");
    const lost = { ...known, externalId: String(cut.id) };
    assert.deepEqual(await forge.rerun?.(lost, [], never), { kind: "asked" });
    at += 6 * 60_000;
    await forge.poll(never);
    await forge.remove("m1-p-1", never);

    const held = new Set<string>();
    for (const { method, template, status, body } of fake.records) {
      if (template === undefined || body === undefined || status >= 400 || status === 304) continue;
      const content = pointerTo("content", "application/json", "schema");
      const at = pointerTo("paths", template, method.toLowerCase(), "responses", String(status));
      const where = at + content;
      const response = dig(found.json, at);
      const target = "$ref" in response ? `${String(response["$ref"]).slice(1)}${content}` : where;
      const validate = validator(target);
      assert.ok(validate(body), `${method} ${template}: ${JSON.stringify(validate.errors?.[0])}`);
      held.add(`${method} ${template}`);
    }
    assert.ok(held.size >= 11, `only ${[...held].join(", ")}`);
  } finally {
    await world.close();
  }
});

test("the fake's events are what GitHub's document of webhooks says", async (t) => {
  const found = await publishedJson(githubWebhooks, "generated/api.github.com.json");
  if ("why" in found) return t.skip(found.why);
  const validator = validators(found.json);
  const world = await openWorld({ now: Date.now });
  try {
    const { id } = await world.queue({ labels: ["linux"], trust: "trusted" });
    const job = world.jobOf(id);
    for (const [status, name] of [
      ["queued", "queued"],
      ["in_progress", "in-progress"],
      ["completed", "completed"],
    ] as const) {
      if (status === "in_progress") {
        await world.registerOther("m1-p-1");
        await world.start({ id }, "m1-p-1");
      }
      if (status === "completed") await world.end({ id }, "failure");
      const at = pointerTo("components", "schemas", `webhook-workflow-job-${name}`, "properties");
      const event = jobEventShape(world.fake.state.api, job) as Record<string, unknown>;
      for (const key of ["action", "workflow_job"]) {
        const validate = validator(at + pointerTo(key));
        assert.ok(validate(event[key]), `${status}: ${JSON.stringify(validate.errors?.[0])}`);
      }
    }
  } finally {
    await world.close();
  }
});

test("jobs are read from events that GitHub has sent", async (t) => {
  const found = await publishedJson(githubExamples, "api.github.com/index.json");
  if ("why" in found) return t.skip(found.why);
  type Example = { action: string; workflow_job: { id: number; labels: string[]; run_id: number } };
  const events = found.json as { name: string; examples: Example[] }[];
  const examples = events.find(({ name }) => name === "workflow_job")?.examples ?? [];
  assert.ok(examples.length >= 8);
  for (const example of examples) {
    const [org = ""] = repositoryOf(example).split("/");
    const world = await openWorld({ now: Date.now, org });
    try {
      // The run is not in the fake: it is learned from an event of its own.
      const run = { ...world.fake.state.run(world.fake.state.repository("any"), null) };
      const event = { ...run, id: example.workflow_job.run_id };
      await world.forge.verify(world.fake.state.runEvent(event));
      const request = world.fake.state.sign("workflow_job", example);
      const { sightings, note } = await world.forge.verify(request);
      if (example.action === "waiting") {
        assert.deepEqual(sightings, []);
        assert.match(note, /waiting/);
        continue;
      }
      const [job] = sightings;
      const states: Record<string, string> = {
        queued: "waiting",
        in_progress: "started",
        completed: "ended",
      };
      assert.equal(job?.state, states[example.action]);
      assert.equal(job?.externalId, String(example.workflow_job.id));
      assert.deepEqual(job?.labels, example.workflow_job.labels);
      assert.equal(job?.runner === null, example.action === "queued");
      assert.equal(job?.trust, "fork", "its head repository is gone");
    } finally {
      await world.close();
    }
  }
});

function repositoryOf(example: unknown): string {
  return (example as { repository: { full_name: string } }).repository.full_name;
}

function dig(document: unknown, pointer: string): Record<string, unknown> {
  let at = document as Record<string, unknown>;
  for (const part of pointer.split("/").slice(1)) {
    at = at[part.replaceAll("~1", "/").replaceAll("~0", "~")] as Record<string, unknown>;
  }
  return at;
}
