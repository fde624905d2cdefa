import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Manager } from "../../../test/guests.ts";
import type { Program } from "../../domain/program.ts";
import { findRunner } from "../../store/questions.ts";
import { guestRoutes } from "../../web/guest-routes.ts";
import type { Machine, MachineSpec, Provider } from "../provider.ts";
import { open } from "./ec2.ts";
import { typesOf } from "./types.ts";
import { freePort } from "../../../test/ports.ts";
import { Secret } from "../../domain/secret.ts";
import { ec2Options, type Ec2Options } from "./options.ts";
import { Amazon, motoForTests } from "./testing.ts";

/*
 * What is tried of EC2 itself: the same code against moto in every run of the tests, and against a
 * real account when one is given. It counts what it may cost before it asks for anything.
 */

interface LiveSettings {
  readonly options: Ec2Options;
  /** The most that all machines of a run may cost, US dollars. */
  readonly usdMax: number;
  /** Where machines reach this host (`http://host:port`); null: they cannot. */
  readonly url: string | null;
}

/** After this a machine ends itself, and a quarter of an hour later any provider would end it. */
const lifeSeconds = 600;
const overdueSeconds = 900;
/** Disk and public address of a machine, rounded up; not in the prices of types. */
const besideUsdPerHour = 0.02;
const patienceMs = 10 * 60_000;
const never = new AbortController().signal;

/** Lets machines be made while all of them, each living as long as it can, stay below a sum. */
class Budget {
  readonly #usdMax: number;
  #boundUsd = 0;

  constructor(usdMax: number) {
    this.#usdMax = usdMax;
  }

  /** Throws when one more at this price might go beyond. Returns what to call once it is gone. */
  take(usdPerHour: number): (livedSeconds: number) => void {
    const costOf = (seconds: number) => ((usdPerHour + besideUsdPerHour) * seconds) / 3600;
    const mostUsd = costOf(lifeSeconds + overdueSeconds);
    const next = this.#boundUsd + mostUsd;
    if (!(next <= this.#usdMax)) {
      const sums = `${next.toFixed(3)} USD, and ${this.#usdMax} are allowed`;
      throw new Error(`one more machine might bring this to ${sums} (MAYFLY_LIVE_EC2_USD)`);
    }
    this.#boundUsd = next;
    // AWS bills a minute at least.
    return (livedSeconds) => {
      this.#boundUsd -= Math.max(0, mostUsd - costOf(Math.max(60, livedSeconds)));
    };
  }
}

/** `settings` null: this run is skipped, with the reason. */
function liveSuite(
  name: string,
  settings: () => Promise<LiveSettings>,
  skip: string | false,
): void {
  describe(name, { skip, timeout: 30 * 60_000 }, () => {
    let live: Live;

    before(async () => {
      live = await Live.open(await settings());
    });
    after(() => live?.close());

    it("has all that it needs, as dry runs tell", async () => {
      const checks = await live.provider.check(never);
      const amiss = checks.filter(({ ok, isOptional }) => !ok && isOptional !== true);
      assert.deepEqual(amiss, []);
    });

    it("makes one machine of a name, which runs its program and ends itself", async () => {
      const spec = live.spec();
      const program = live.program("sleep 5");
      const made = await live.create(spec, program);
      assert.equal((await live.provider.create(spec, program, never)).handle, made.handle);
      await live.until(spec.name, (machine) => machine?.state === "ended");
      await live.destroy(spec.name);
    });

    it("ends a machine that is not wanted any more", async () => {
      const spec = live.spec();
      await live.create(spec, live.program("sleep 600"));
      await live.until(spec.name, (machine) => machine?.state === "running");
      await live.destroy(spec.name);
      await live.until(spec.name, (machine) => machine === undefined);
    });

    it("gives its claim to that very machine", async (t) => {
      if (live.url === null) return t.skip("no MAYFLY_LIVE_EC2_URL: machines cannot call here");
      const [runner, program] = await live.claim();
      const state = async () => (await findRunner(live.manager.store.db, runner))?.state;
      const thief = live.manager.guests.redeem(live.manager.tokens.claim(runner), "ab".repeat(16));
      await assert.rejects(thief, { code: "forbidden" });
      await live.create({ ...live.spec(), name: runner }, program);
      const end = Date.now() + patienceMs;
      while ((await state()) !== "up" && Date.now() < end) await sleep(200);
      assert.equal(await state(), "up");
      await live.destroy(runner);
    });
  });
}

class Live {
  readonly provider: Provider;
  readonly manager: Manager;
  readonly url: string | null;
  readonly #options: Ec2Options;
  readonly #budget: Budget;
  readonly #folder: string;
  readonly #installation: string;
  readonly #server: Server;
  /** What counts what a machine cost instead of what it might have, by name. */
  readonly #settle = new Map<string, () => void>();
  #made = 0;

  private constructor(
    parts: Pick<Live, "provider" | "manager"> & { folder: string; installation: string },
    settings: LiveSettings,
  ) {
    this.provider = parts.provider;
    this.manager = parts.manager;
    this.#folder = parts.folder;
    this.#installation = parts.installation;
    this.#options = settings.options;
    this.#budget = new Budget(settings.usdMax);
    this.url = settings.url;
    const routes = guestRoutes(this.manager.guests);
    this.#server = createServer((request, response) => void routes(request, response));
  }

  static async open(settings: LiveSettings): Promise<Live> {
    const folder = mkdtempSync(join(tmpdir(), "mayfly-live-"));
    const installation = `live${Math.random().toString(36).slice(2, 8)}`;
    const log = { info: () => {}, warn: () => {} };
    const folders = { folder, guestFolder: folder, stateFolder: folder };
    const context = { name: "box", installation, ...folders, now: () => Date.now(), log };
    const provider = await open(settings.options, context);
    const manager = await Manager.open(folder, { providers: [provider] });
    const live = new Live({ provider, manager, folder, installation }, settings);
    if (settings.url !== null) {
      live.#server.listen(Number(new URL(settings.url).port || 80));
      await once(live.#server, "listening");
    }
    return live;
  }

  spec(): MachineSpec {
    const [architecture] = this.provider.lends().architectures;
    assert.ok(architecture);
    const size = { cpu: 1, memoryMb: 512, diskGb: 1, gpu: 0, architecture };
    const name = `${this.#installation}-live-${++this.#made}`;
    return { name, size, image: null, network: true, trust: ["trusted"] };
  }

  program(script: string): Program {
    const command = ["sh", "-c", script];
    return { files: [], command, environment: {}, deadlineSeconds: lifeSeconds };
  }

  async claim(): Promise<[string, Program]> {
    const [name, program] = await this.manager.claimRunner([], this.url!, this.#installation);
    return [name, { ...program, deadlineSeconds: lifeSeconds }];
  }

  create(spec: MachineSpec, program: Program): Promise<Machine> {
    const dearest = Math.max(...typesOf(this.#options.types).map(({ usdPerHour }) => usdPerHour));
    const settle = this.#budget.take(dearest);
    const from = performance.now();
    this.#settle.set(spec.name, () => settle((performance.now() - from) / 1000));
    return this.provider.create(spec, program, never);
  }

  async until(name: string, holds: (machine: Machine | undefined) => boolean): Promise<void> {
    const end = Date.now() + patienceMs;
    for (;;) {
      const machine = (await this.provider.list(never)).find((each) => each.name === name);
      if (holds(machine)) return;
      assert.ok(Date.now() < end, `${name} stays ${machine?.state ?? "away"}`);
      await sleep(1_000);
    }
  }

  async destroy(name: string): Promise<void> {
    const end = Date.now() + patienceMs;
    while ((await this.provider.destroy(name, never)) !== "gone") {
      assert.ok(Date.now() < end, `${name} does not end`);
      await sleep(1_000);
    }
    this.#settle.get(name)?.();
    this.#settle.delete(name);
  }

  /** Whatever happened before: nothing that costs is left. */
  async close(): Promise<void> {
    try {
      const left = await this.provider.list(never);
      const outcomes = await Promise.allSettled(left.map(({ name }) => this.destroy(name)));
      const failed = left.filter((_, n) => outcomes[n]?.status === "rejected");
      assert.deepEqual(failed, [], "end these by hand");
    } finally {
      this.#server.closeAllConnections();
      this.#server.close();
      await this.manager.close();
      await this.provider.close();
      rmSync(this.#folder, { recursive: true, force: true });
    }
  }
}

const moto = await motoForTests();
const given = (name: string): string => process.env[`MAYFLY_LIVE_EC2_${name}`] ?? "";
const list = (name: string): string[] => given(name).split(",").filter(Boolean);

/** Of a real account: what is not given is left to the provider's defaults. */
function ofAccount(): LiveSettings {
  const [id, key] = [process.env["MAYFLY_LIVE_EC2_KEY_ID"], process.env["MAYFLY_LIVE_EC2_KEY"]];
  const secret = (value: string) => new Secret({ kind: "env", name: "MAYFLY_LIVE_EC2" }, value);
  const options = ec2Options.parse({
    region: given("REGION"),
    subnets: list("SUBNETS"),
    securityGroups: list("SECURITY_GROUPS"),
    types: list("TYPES").length > 0 ? list("TYPES") : ["c7i.large"],
    ...(given("IMAGE") === "" ? {} : { image: given("IMAGE") }),
    ...(given("PUBLIC_ADDRESS") === "" ? {} : { publicAddress: true }),
  });
  const usdMax = Number(given("USD") || "0.10");
  assert.ok(usdMax > 0, "MAYFLY_LIVE_EC2_USD is no sum");
  const accessKey = id && key ? { accessKey: { id: secret(id), secret: secret(key) } } : {};
  return { options: { ...options, ...accessKey }, usdMax, url: given("URL") || null };
}

// The tests' own server wants no real credentials, and sets variables that the SDK would take.
const isGiven = given("REGION") !== "" && given("SUBNETS") !== "" && given("KEY_ID") !== "";
liveSuite(
  "EC2, a real account",
  async () => ofAccount(),
  isGiven
    ? false
    : "needs MAYFLY_LIVE_EC2_REGION, _SUBNETS, _SECURITY_GROUPS, _KEY_ID and _KEY of an account; costs at most MAYFLY_LIVE_EC2_USD (0.10)",
);

let amazon: Amazon | null = null;
liveSuite(
  "EC2, played by moto",
  async () => {
    amazon = await Amazon.start((moto as { path: string }).path);
    amazon.boots = true;
    const options = { ...amazon.options(), identityCertificate: amazon.certificate };
    const url = `http://127.0.0.1:${await freePort()}`;
    return { options: { ...options, types: ["c7i.large"] }, usdMax: 0.1, url };
  },
  typeof moto === "string" ? moto : false,
);
test.after(() => amazon?.close());

test("a run may cost no more than it was told", () => {
  assert.throws(() => new Budget(0.01).take(0.09), /MAYFLY_LIVE_EC2_USD/);
  assert.throws(() => new Budget(Number.NaN).take(0), /MAYFLY_LIVE_EC2_USD/);
  const budget = new Budget(0.1);
  const gone = budget.take(0.09);
  budget.take(0.09);
  assert.throws(() => budget.take(0.09), /0\.\d+ USD, and 0\.1 are allowed/);
  gone(30);
  budget.take(0.09);
  assert.throws(() => budget.take(0.09), /allowed/);
});
