import type { KeyObject } from "node:crypto";
import { ProviderError } from "../../domain/errors.ts";
import type { Price } from "../../domain/money.ts";
import type { Program } from "../../domain/program.ts";
import type { Architecture, Size } from "../../domain/size.ts";
import { refuseAborted, Turns, untilAborted } from "../local.ts";
import { isOurs, refuseName, refuseUnfit } from "../names.ts";
import { refuseProgram } from "../program.ts";
import type { Capabilities, Check, Machine, MachineSpec } from "../provider.ts";
import type { Provider, ProviderContext } from "../provider.ts";
import { Breaker } from "./breaker.ts";
import { checkEc2 } from "./check.ts";
import { Cloud } from "./cloud.ts";
import { identityKeys, mismatch, readIdentity } from "./identity.ts";
import { Images } from "./images.ts";
import * as instances from "./instances.ts";
import type { Seen } from "./instances.ts";
import { Launcher, placeKey, secretPrefix } from "./launch.ts";
import type { Ec2Options } from "./options.ts";
import { Prices } from "./prices.ts";
import { fitting, typesOf, type InstanceType } from "./types.ts";
import { secretScript } from "./user-data.ts";

/** How long EC2 may go on not showing what it made; it promises no bound, and seconds are usual. */
const lagMs = 60_000;
/** What lives so much longer than it may has missed both its own ends. */
const overdueMs = 15 * 60_000;
/** EC2 shows an ended instance for about an hour; so long we have to remember that we know. */
const rememberMs = 2 * 3600_000;
const rememberedMax = 20_000;

/** Throws `invalid` for types that nobody knows; asks AWS nothing. */
export async function open(options: Ec2Options, context: ProviderContext): Promise<Provider> {
  const types = typesOf(options.types);
  if (options.claimBy === "parameter" && options.instanceProfile === undefined) {
    const why = "without a role a machine cannot read its parameter";
    throw new ProviderError("invalid", `claimBy: parameter needs an instanceProfile: ${why}`);
  }
  return new Ec2(options, context, types, new Cloud(options, context.installation));
}

class Ec2 implements Provider {
  readonly name: string;
  /** Absent where identity documents cannot be verified: then a claim alone counts. */
  readonly prove?: NonNullable<Provider["prove"]>;
  readonly #options: Ec2Options;
  readonly #context: ProviderContext;
  readonly #types: readonly InstanceType[];
  readonly #cloud: Cloud;
  readonly #breaker: Breaker;
  readonly #images: Images;
  readonly #launcher: Launcher;
  readonly #prices: Prices;
  readonly #turns = new Turns();
  /** Made by us a moment ago: listings may not show them yet. By name. */
  readonly #made = new Map<string, Seen & { madeAt: number }>();
  /** Instances that are over, and whose end was told, by id, with the time. */
  readonly #dismissed = new Map<string, number>();
  readonly #interrupted = new Map<string, number>();

  constructor(
    options: Ec2Options,
    context: ProviderContext,
    types: readonly InstanceType[],
    cloud: Cloud,
  ) {
    this.name = context.name;
    this.#options = options;
    this.#context = context;
    this.#types = types;
    this.#cloud = cloud;
    const { now, log, installation } = context;
    const keys = identityKeys(options);
    if (keys.length > 0) {
      this.prove = async (machine, proof, signal) => {
        refuseName(installation, machine);
        refuseAborted(signal);
        return untilAborted(signal, this.#prove(machine, proof, keys));
      };
    }
    this.#breaker = new Breaker(now);
    this.#images = new Images(cloud, now);
    this.#prices = new Prices(now, () =>
      cloud.spotPrices(
        types.map(({ name }) => name),
        now(),
      ),
    );
    const breaker = this.#breaker;
    this.#launcher = new Launcher({
      options,
      installation,
      types,
      proves: keys.length > 0,
      cloud,
      breaker,
      now,
      log,
    });
  }

  async create(spec: MachineSpec, program: Program, signal: AbortSignal): Promise<Machine> {
    refuseName(this.#context.installation, spec.name);
    refuseUnfit(spec, this.lends());
    refuseProgram(program);
    if (fitting(this.#types, spec.size).length === 0) {
      throw new ProviderError("invalid", "no instance type here has all of that at once");
    }
    return this.#inTurn(spec.name, signal, () => this.#create(spec, program));
  }

  async list(signal: AbortSignal): Promise<readonly Machine[]> {
    refuseAborted(signal);
    return untilAborted(signal, this.#list());
  }

  async destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending"> {
    refuseName(this.#context.installation, name);
    return this.#inTurn(name, signal, () => this.#destroy(name));
  }

  price(size: Size, isOnDemand = false): Price {
    const [cheapest] = fitting(this.#types, size);
    const type = cheapest ?? this.#types.at(-1)!;
    const { market } = this.#options;
    return this.#prices.of(type, market === "spot" || (market === "spot-first" && !isOnDemand));
  }

  lends(): Capabilities {
    const most = (of: (type: InstanceType) => number): number => Math.max(...this.#types.map(of));
    const architectures = new Set<Architecture>(
      this.#types.map(({ architecture }) => architecture),
    );
    const isMetal = this.#types.every((type) => type.isMetal);
    return {
      architectures: [...architectures],
      maximum: {
        cpu: most(({ cpu }) => cpu),
        memoryMb: most(({ memoryMb }) => memoryMb),
        diskGb: 16_384,
        gpu: 0,
        architecture: [...architectures][0]!,
      },
      channel: "url",
      accepts: ["trusted", "fork"],
      // The processor's own counters are all there only without a hypervisor.
      labels: isMetal ? ["ec2", "metal", "kvm", "perf"] : ["ec2"],
    };
  }

  check(signal: AbortSignal): Promise<readonly Check[]> {
    const { lends, launcher } = { lends: this.lends(), launcher: this.#launcher };
    const parts = { options: this.#options, cloud: this.#cloud, images: this.#images };
    const installation = this.#context.installation;
    return untilAborted(
      signal,
      checkEc2({ ...parts, lends, launcher, installation, proves: this.prove !== undefined }),
    );
  }

  async prepare(): Promise<void> {}

  async close(): Promise<void> {
    this.#cloud.close();
  }

  #inTurn<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    refuseAborted(signal);
    // What was sent to AWS is not taken back by an abort, so the next call waits for its outcome.
    return untilAborted(signal, this.#turns.take(name, work));
  }

  async #create(spec: MachineSpec, program: Program): Promise<Machine> {
    const secret = this.#options.claimBy === "parameter" ? secretScript(program) : null;
    const found = instances.chosen(await this.#living(spec.name));
    if (found !== undefined) {
      this.#launcher.forget(spec.name);
      // The manager that made it may have died before it handed over the claim.
      if (!instances.isEnding(found)) await this.#handOver(found, secret);
      return instances.machineOf(found);
    }
    const image = await this.#images.find(
      spec.image ?? this.#options.image,
      spec.size.architecture,
    );
    const seen = await this.#launcher.launch(spec, program, image);
    this.#made.set(seen.name, { ...seen, madeAt: this.#context.now() });
    await this.#handOver(seen, secret);
    return instances.machineOf(seen);
  }

  async #handOver({ id }: Seen, secret: string | null): Promise<void> {
    if (secret === null) return;
    const value = Buffer.from(secret).toString("base64");
    await this.#cloud.putSecret(this.#secretOf(id), value, id);
  }

  #secretOf(id: string): string {
    return `${secretPrefix(this.#context.installation)}/${id}`;
  }

  async #prove(name: string, proof: string, keys: readonly KeyObject[]): Promise<string | null> {
    const identity = readIdentity(proof, keys);
    if (typeof identity === "string") return identity;
    const { region } = this.#options;
    if (identity.region !== region) return `it is in ${identity.region}, and not in ${region}`;
    const known = this.#madeLately(name) ?? instances.chosen(await this.#living(name));
    if (known !== undefined) return mismatch(identity, known);
    // A list by tags lags behind more than the instance itself.
    const named = await this.#cloud.instance(identity.instanceId);
    if (named === null || !this.#counts(named)) {
      throw new ProviderError("unreachable", `EC2 does not show ${identity.instanceId} yet`);
    }
    if (named.name === name) return mismatch(identity, named);
    return `${identity.instanceId} is not the machine of this name`;
  }

  /** What EC2 shows under a name, and what we just made, without those whose end is known. */
  async #living(name: string): Promise<readonly Seen[]> {
    const shown = await this.#cloud.find(name);
    const found = shown.filter((seen) => this.#counts(seen));
    if (found.length > 0) return found;
    // Shown as over, it needs no remembering.
    if (shown.some(({ id }) => id === this.#made.get(name)?.id)) this.#made.delete(name);
    const made = this.#madeLately(name);
    return made === undefined ? [] : [made];
  }

  #counts(seen: Seen): boolean {
    return !instances.isDismissed(seen) && !this.#dismissed.has(seen.id);
  }

  #madeLately(name: string): Seen | undefined {
    const made = this.#made.get(name);
    if (made === undefined) return undefined;
    if (this.#context.now() - made.madeAt < lagMs && !this.#dismissed.has(made.id)) return made;
    this.#made.delete(name);
    return undefined;
  }

  async #list(): Promise<readonly Machine[]> {
    const { installation, now } = this.#context;
    const all = await this.#cloud.list();
    const ours = all.filter(({ name }) => isOurs(installation, name));
    this.#learn(ours);
    const byName = Map.groupBy(
      ours.filter((seen) => this.#counts(seen)),
      ({ name }) => name,
    );
    const shown = new Set(ours.map(({ id }) => id));
    for (const [name, made] of this.#made) {
      if (shown.has(made.id)) this.#made.delete(name);
      else if (this.#madeLately(name) !== undefined && !byName.has(name)) byName.set(name, [made]);
    }
    const machines: Machine[] = [];
    const doomed: Seen[] = [];
    for (const seen of byName.values()) {
      const kept = instances.chosen(seen)!;
      machines.push(instances.machineOf(kept));
      for (const each of seen) {
        if (instances.isEnding(each)) continue;
        if (each !== kept || isOverdue(each, now())) doomed.push(each);
      }
    }
    await this.#endSpare(doomed);
    // Prices are worth having, not worth failing for.
    if (this.#options.market !== "on-demand") await this.#prices.refresh().catch(() => {});
    return machines;
  }

  /** Two under one name, or one that outlived its deadline: nothing else would end these. */
  async #endSpare(doomed: readonly Seen[]): Promise<void> {
    const ended = await Promise.allSettled(doomed.map(({ id }) => this.#cloud.end(id)));
    for (const [n, { name, id }] of doomed.entries()) {
      const outcome = ended[n]?.status === "fulfilled" ? "ended" : "could not be ended yet";
      const reason = `an instance too many, or past its deadline: ${outcome}`;
      this.#context.log.warn({ provider: this.name, machine: name, instance: id }, reason);
    }
  }

  /** Where spot is taken back again and again, none is bought for a while. */
  #learn(seen: readonly Seen[]): void {
    const now = this.#context.now();
    for (const each of seen) {
      if (!instances.isInterruption(each) || this.#interrupted.has(each.id)) continue;
      remember(this.#interrupted, each.id, now);
      this.#breaker.interrupted(placeKey(true, each.type, each.subnet));
    }
    forgetOld(this.#interrupted, now);
    forgetOld(this.#dismissed, now);
  }

  async #destroy(name: string): Promise<"gone" | "ending"> {
    const found = await this.#living(name);
    if (found.length === 0) {
      const since = this.#launcher.unsureSince(name);
      // A request without an answer may have made one that EC2 does not show yet.
      if (since !== null && this.#context.now() - since < lagMs) return "ending";
      this.#launcher.forget(name);
      return "gone";
    }
    const alive = found.filter((seen) => !instances.isOver(seen));
    // Also for one that is on its way out: that EC2 takes it back does not mean that it is gone.
    await Promise.all(alive.map(({ id }) => this.#cloud.end(id)));
    // Now, since one that we ended is not found again.
    if (this.#options.claimBy === "parameter") {
      await Promise.all(found.map(({ id }) => this.#cloud.removeSecret(this.#secretOf(id))));
    }
    if (alive.length > 0) return "ending";
    for (const { id } of found) remember(this.#dismissed, id, this.#context.now());
    this.#made.delete(name);
    this.#launcher.forget(name);
    return "gone";
  }
}

function isOverdue({ launchedAt, deadlineSeconds }: Seen, now: number): boolean {
  return deadlineSeconds !== null && now > launchedAt + deadlineSeconds * 1000 + overdueMs;
}

function remember(map: Map<string, number>, id: string, now: number): void {
  map.set(id, now);
  if (map.size <= rememberedMax) return;
  const [oldest] = map.keys();
  if (oldest !== undefined) map.delete(oldest);
}

/** They stand in the order of their times. */
function forgetOld(map: Map<string, number>, now: number): void {
  for (const [id, at] of map) {
    if (now - at < rememberMs) return;
    map.delete(id);
  }
}
