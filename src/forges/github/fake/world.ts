import { generateKeyPairSync } from "node:crypto";
import type { ForgeWorld } from "../../conformance.ts";
import { Secret } from "../../../domain/secret.ts";
import { openGithub } from "../github.ts";
import { githubOptions, type GithubOptions } from "../options.ts";
import { FakeGithub } from "./server.ts";
import type { FakeJob } from "./shapes.ts";

export interface WorldSettings {
  readonly now: () => number;
  readonly as?: "app" | "token";
  /** The clock that an App's key is checked by; `now` unless said. */
  readonly keyNow?: () => number;
  /** The organisation; `acme` unless said. */
  readonly org?: string;
  /** What else the configuration says. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** Where log lines go. */
  readonly log?: (message: string, fields: object) => void;
}

export interface GithubWorld extends ForgeWorld {
  readonly fake: FakeGithub;
  jobOf(id: string): FakeJob;
}

const secretReference = { kind: "env", name: "SECRET" } as const;
const pair = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  publicKeyEncoding: { type: "spki", format: "pem" },
  // GitHub's own downloads are of this form.
  privateKeyEncoding: { type: "pkcs1", format: "pem" },
});

/** A fake GitHub with one organisation and a repository, and a forge that is opened on it. */
export async function openWorld(settings: WorldSettings): Promise<GithubWorld> {
  const { now, keyNow = now, as = "token", org = "acme", log = () => {} } = settings;
  const token = "github_pat_11AAAA_not_to_be_seen";
  const secret = "the-webhook's-secret";
  const fake = await FakeGithub.start({ org, now, keyNow, token, secret, appKey: pair.publicKey });
  const credential =
    as === "token"
      ? { token: new Secret(secretReference, token) }
      : { app: 1234, key: new Secret(secretReference, pair.privateKey) };
  const parsed = githubOptions.parse({
    url: fake.url,
    ...(as === "token" ? { token: "env:T" } : { app: 1234, key: "env:K" }),
    secret: "env:S",
    ...settings.options,
  });
  const options: GithubOptions = {
    ...parsed,
    ...credential,
    secret: new Secret(secretReference, secret),
  };
  const told = (fields: object, message: string): void => log(message, fields);
  const forge = openGithub(options, {
    name: "acme",
    installation: "m1",
    now,
    log: { info: told, warn: told },
    guestProgram: (birth) => ({
      files: [],
      command: ["guest", birth.managerUrl],
      environment: {},
      deadlineSeconds: birth.lifeSeconds,
    }),
  });
  const { state } = fake;
  const repository = state.repository("widget");
  const jobOf = (id: string): FakeJob => {
    const job = state.jobs.get(Number(id));
    if (job === undefined) throw new Error(`there is no job ${id}`);
    return job;
  };
  return {
    forge,
    fake,
    jobOf,
    installation: "m1",
    queue: async ({ labels, trust }) => {
      const head = trust === "fork" ? state.repository("stranger/widget") : repository;
      const run = state.run(repository, head, trust === "fork" ? "pull_request" : "push");
      return { id: String(state.job(run, labels).id) };
    },
    event: async ({ id }) => state.jobEvent(jobOf(id)),
    otherEvent: async () => state.sign("ping", { zen: "Keep it logically awesome.", hook_id: 1 }),
    start: async ({ id }, runner) => state.start(jobOf(id), runner),
    end: async ({ id }, outcome) => state.end(jobOf(id), outcome),
    forget: async ({ id }) => void state.jobs.delete(Number(id)),
    registered: async () => [...state.runners.values()].map(({ name }) => name),
    registerOther: async (name) => {
      const more = { isOnline: true, showsBusy: false, isBusy: false };
      const id = state.id();
      state.runners.set(id, { id, name, labels: ["self-hosted"], group: 1, ...more });
    },
    outage: async (kind) => {
      fake.outage = kind;
    },
    secrets: () => [...state.secrets, pair.privateKey, pair.privateKey.slice(200, 300)],
    close: () => fake.close(),
  };
}
