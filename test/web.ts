import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { MayflyError } from "../src/domain/errors.ts";
import type { JobSighting } from "../src/domain/job.ts";
import type { PlanAction } from "../src/domain/planner.ts";
import type { Pool } from "../src/domain/pool.ts";
import type {
  Fleet,
  ForgeHealth,
  GuestDesk,
  Intake,
  NativeDesk,
  ProviderHealth,
  Submission,
} from "../src/fleet/api.ts";
import type { Log } from "../src/fleet/log.ts";
import type { Capabilities } from "../src/providers/provider.ts";
import { recordSightings, updateJob } from "../src/store/jobs.ts";
import { takeLease } from "../src/store/leases.ts";
import { findJob, type StoredJob } from "../src/store/questions.ts";
import { moveRunner, recordClaims, type Claim } from "../src/store/runners.ts";
import { Store } from "../src/store/store.ts";
import { serve, type Served, type ServeOptions } from "../src/web/server.ts";
import { placed, sampleClaim, samplePool, sampleSighting, size } from "./samples.ts";
import { HandClock } from "./stores.ts";

/* A server over a real store in memory, and a fleet that only pretends. */

export const token = "a-token-of-the-tests";

const capabilities: Capabilities = {
  architectures: ["x64"],
  maximum: { ...size, cpu: 16, memoryMb: 65_536 },
  channel: "socket",
  accepts: ["trusted", "fork"],
  labels: ["podman"],
};

/** A fleet whose parts tests may set; what changes jobs does so through the real store. */
export class StubFleet implements Fleet {
  readonly store: Store;
  pools: Pool[] = [samplePool({ labels: ["linux"] })];
  plans = new Map<string, { at: number; actions: readonly PlanAction[] }>();
  providerList: ProviderHealth[] = [provider("box")];
  forgeList: ForgeHealth[] = [{ name: "acme", polledAt: 1_800_000_000_000, failure: null }];
  isReady = true;
  received: { forge: string; body: Uint8Array; headers: object }[] = [];
  submitted: Submission[] = [];
  artifacts = new Map<string, string>();
  #count = 0;

  constructor(store: Store) {
    this.store = store;
  }

  readonly intake: Intake = {
    receive: async (forge, request) => {
      if (forge !== "acme") throw new MayflyError("not_found", `there is no forge ${forge}`);
      if (request.headers["x-signature"] !== "good") {
        throw new MayflyError("unauthenticated", "the signature is wrong", {
          where: "x-signature",
        });
      }
      this.received.push({ forge, body: request.body, headers: request.headers });
      return { jobs: [], repeated: false, note: "a push is nothing to us" };
    },
    record: async () => ({ jobs: [], repeated: false, note: "" }),
  };

  readonly native: NativeDesk = {
    submit: async (submission) => {
      if (submission.command.length === 0 && submission.target === null) {
        throw new MayflyError("invalid", "neither a command nor a target", { where: "command" });
      }
      this.submitted.push(submission);
      const externalId = `n${++this.#count}`;
      return this.put({
        forge: "native",
        externalId,
        name: submission.name ?? "job",
        repository: submission.repository,
        labels: submission.labels,
        work: {
          source: submission.source,
          command: submission.command,
          environment: submission.environment,
          timeoutSeconds: submission.timeoutSeconds ?? 3600,
          artifacts: submission.artifacts,
        },
      });
    },
    keepTree: async (archive) => {
      const hash = createHash("sha256");
      let bytes = 0;
      for await (const chunk of archive as AsyncIterable<Buffer>) {
        hash.update(chunk);
        bytes += chunk.length;
      }
      return { sha256: hash.digest("hex"), bytes };
    },
    cancel: async (id, reason) => {
      const before = await findJob(this.store.db, id);
      if (before === null) throw new MayflyError("not_found", `there is no job ${id}`);
      if (before.state === "ended") throw new MayflyError("conflict", `job ${id} is over`);
      const after = { ...before, state: "ended", outcome: "cancelled", reason } as const;
      const now = this.#now();
      await this.store.write((tx) => updateJob(tx, before, { ...after, endedAt: now }));
      return { ...after, endedAt: now, size: before.size };
    },
    openArtifact: async (job, path) => {
      const content = this.artifacts.get(`${job}/${path}`);
      if (content === undefined) throw new MayflyError("not_found", "no such artifact");
      return Readable.from([Buffer.from(content)]);
    },
  };

  readonly guests = new Proxy({} as GuestDesk, {
    get: () => () => Promise.reject(new MayflyError("unauthenticated", "no such claim")),
  });

  async start(): Promise<void> {}
  async stop(): Promise<void> {}
  lastPlan(pool: string): { at: number; actions: readonly PlanAction[] } | null {
    return this.plans.get(pool) ?? null;
  }
  providers(): readonly ProviderHealth[] {
    return this.providerList;
  }
  forges(): readonly ForgeHealth[] {
    return this.forgeList;
  }
  async ready(): Promise<{ ok: boolean; detail: string }> {
    return this.isReady ? { ok: true, detail: "ready" } : { ok: false, detail: "starting" };
  }

  /** Stores a job as a forge would show it. */
  async put(changes: Partial<JobSighting>, pool: string | null = "small"): Promise<StoredJob> {
    const sighting = sampleSighting({ queuedAt: this.#now(), ...changes });
    await this.store.write((tx) => recordSightings(tx, [placed(sighting, { pool })]));
    const { forge, externalId } = sighting;
    const job = await findJob(this.store.db, `${forge}-${externalId}`);
    if (job === null) throw new Error("the job was not stored");
    return job;
  }

  /** Claims a machine; `until` moves it on through its states. */
  async machine(
    name: string,
    until: "claimed" | "asked" | "up" = "claimed",
    changes: Partial<Claim> = {},
  ): Promise<void> {
    await this.store.write(async (tx) => {
      const lease = await takeLease(tx, `pool/${changes.pool ?? "small"}`, "tests", 60_000);
      if (lease === null) throw new Error("somebody else has the lease");
      await recordClaims(tx, lease, [sampleClaim(name, changes)], 1000);
    });
    const steps = until === "claimed" ? [] : until === "asked" ? ["asked"] : ["asked", "up"];
    for (const to of steps) {
      const reason = to === "asked" ? "box made c0ffee in 812 ms" : "its guest reported";
      await this.store.write((tx) => moveRunner(tx, name, to as "asked" | "up", { reason }));
    }
  }

  readonly #now = (): number => this.clock.now();
  clock = new HandClock();
}

export function provider(name: string, changes: Partial<ProviderHealth> = {}): ProviderHealth {
  return {
    name,
    capabilities,
    backOff: null,
    listedAt: 1_800_000_000_000,
    check: async () => [
      { name: "podman", ok: true, detail: "podman 4.3.1", mend: null },
      { name: "kvm", ok: false, detail: "/dev/kvm is missing", mend: "Load the kvm module." },
    ],
    ...changes,
  };
}

export interface WebUnderTest {
  readonly url: string;
  readonly socket: string;
  readonly fleet: StubFleet;
  readonly clock: HandClock;
  readonly logged: { fields: Record<string, unknown>; message: string }[];
  drain(): void;
  close(): Promise<void>;
}

export async function startWeb(
  changes: Partial<ServeOptions> = {},
  at: number | null = null,
): Promise<WebUnderTest> {
  const clock = new HandClock();
  if (at !== null) clock.at = at;
  const store = await Store.open({ engine: "sqlite", folder: null }, clock.now);
  const fleet = new StubFleet(store);
  fleet.clock = clock;
  const folder = mkdtempSync(join(tmpdir(), "mayfly-web-"));
  const socket = join(folder, "guests", "guest.sock");
  const logged: WebUnderTest["logged"] = [];
  const note = (fields: object, message: string): void => {
    logged.push({ fields: { ...fields }, message });
  };
  const log: Log = { info: note, warn: note };
  const clear = async (): Promise<void> => {
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  };
  const starting: Promise<Served> = serve({
    fleet,
    listen: "127.0.0.1:0",
    token,
    guestSocket: socket,
    log,
    now: clock.now,
    version: "0.0.0-test",
    ...changes,
  });
  const served = await starting.catch(async (error: unknown) => {
    await clear();
    throw error;
  });
  return {
    url: served.url,
    socket,
    fleet,
    clock,
    logged,
    drain: () => served.drain(),
    close: async () => {
      await served.close();
      await clear();
    },
  };
}
