import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { gunzipSync } from "node:zlib";
import type { Program } from "../../domain/program.ts";
import { destroyed, listed, never, until, World } from "../conformance-world.ts";
import type { MachineSpec, Provider } from "../provider.ts";
import { open } from "./ec2.ts";
import { Amazon, motoForTests, type Call, type Fault } from "./testing.ts";
import { knownTypes } from "./types.ts";

const moto = await motoForTests();
const skip = typeof moto === "string" ? moto : false;

/** Where a request wanted its instance: `spot c7i.large 0`, the number being that of the subnet. */
function placeOf({ params }: Call): string {
  const market = params.get("InstanceMarketOptions.MarketType") ?? "on-demand";
  const subnet = amazon.subnets.indexOf(params.get("NetworkInterface.1.SubnetId") ?? "");
  return `${market} ${params.get("InstanceType")} ${subnet}`;
}

let amazon: Amazon;

describe("the ec2 provider", { skip, timeout: 600_000 }, () => {
  let world: World;
  let provider: Provider;
  let spec: MachineSpec;
  let program: Program;
  let options: Record<string, unknown>;
  let lateMs: number;

  before(async () => {
    amazon = await Amazon.start((moto as { path: string }).path);
  });
  after(() => amazon.close());

  beforeEach(async () => {
    amazon.calls.length = 0;
    amazon.fault = () => undefined;
    amazon.isBlind = false;
    amazon.boots = false;
    options = {};
    lateMs = 0;
    world = await World.make((context) => {
      amazon.guestFolders.set(context.installation, context.guestFolder);
      return open(amazon.options(options), { ...context, now: () => Date.now() + lateMs });
    });
    provider = await world.open();
    spec = world.spec("1", provider);
    program = world.program(spec.name, "stay");
  });
  afterEach(async () => {
    amazon.fault = () => undefined;
    amazon.isBlind = false;
    assert.deepEqual(await world.close(), []);
    assert.deepEqual(await amazon.living(world.installation), []);
  });

  const make = (by = provider) => by.create(spec, program, never);
  const living = () => amazon.living(world.installation);
  const runs = () => amazon.calls.filter(({ action }) => action === "RunInstances");
  const faultOf =
    (action: string, fault: (n: number, call: Call) => Fault, n = { now: 0 }) =>
    (call: Call) =>
      call.action === action ? fault(n.now++, call) : undefined;

  it("asks zone after zone, type after type, and then on demand", async () => {
    amazon.fault = faultOf("RunInstances", (_, call) =>
      placeOf(call) === "on-demand c7i.large 1"
        ? undefined
        : { code: "InsufficientInstanceCapacity", status: 500 },
    );
    const { handle } = await make();
    const expected = [
      ...["spot c7i.large 0", "spot c7i.large 1", "spot c7i.xlarge 0", "spot c7i.xlarge 1"],
      ...["on-demand c7i.large 0", "on-demand c7i.large 1"],
    ];
    assert.deepEqual(runs().map(placeOf), expected);
    assert.equal(new Set(runs().map(({ params }) => params.get("ClientToken"))).size, 6);
    assert.deepEqual(await living(), [handle]);

    // What was empty a moment ago is left alone, and then tried again.
    amazon.calls.length = 0;
    spec = world.spec("2", provider);
    await make();
    assert.deepEqual(runs().map(placeOf), ["on-demand c7i.large 1"]);
    lateMs = 61_000;
    amazon.calls.length = 0;
    amazon.fault = () => undefined;
    spec = world.spec("3", provider);
    await make();
    assert.deepEqual(runs().map(placeOf), ["spot c7i.large 0"]);
  });

  it("says when to come again where everything is empty", async () => {
    amazon.fault = faultOf("RunInstances", () => ({ code: "UnfulfillableCapacity" }));
    await assert.rejects(make(), { kind: "no_capacity", retryAfterMs: undefined });
    const asked = runs().length;
    const again = await make().catch((error) => error);
    assert.equal(again.kind, "no_capacity");
    assert.ok(again.retryAfterMs > 0 && again.retryAfterMs <= 60_000);
    assert.equal(runs().length, asked);
  });

  it("leaves spot at once where the account may have no more of it", async () => {
    amazon.fault = faultOf("RunInstances", (n) =>
      n === 0 ? { code: "MaxSpotInstanceCountExceeded" } : undefined,
    );
    await make();
    assert.deepEqual(runs().map(placeOf), ["spot c7i.large 0", "on-demand c7i.large 0"]);

    options = { market: "spot" };
    const onlySpot = await world.open();
    spec = world.spec("2", provider);
    amazon.fault = faultOf("RunInstances", () => ({ code: "MaxSpotInstanceCountExceeded" }));
    await assert.rejects(make(onlySpot), { kind: "quota" });
  });

  it("maps what EC2 says to what the fleet decides by", async () => {
    options = { market: "on-demand", types: ["c7i.large"] };
    const strict = await world.open();
    const kinds = [
      ["VcpuLimitExceeded", 400, "quota"],
      ["InstanceLimitExceeded", 400, "quota"],
      ["UnauthorizedOperation", 403, "invalid"],
      ["InvalidSubnetID.NotFound", 400, "invalid"],
      ["OptInRequired", 401, "invalid"],
      ["InternalError", 500, "unreachable"],
      ["Unavailable", 503, "unreachable"],
      ["NobodyKnowsThis", 400, "invalid"],
      ["NorThis", 500, "unreachable"],
      ["RequestExpired", 400, "unreachable"],
    ] as const;
    for (const [code, status, kind] of kinds) {
      amazon.fault = faultOf("RunInstances", () => ({ code, status }));
      const refused = await make(strict).catch((error) => error);
      assert.equal(refused.kind, kind, code);
      assert.match(refused.message, new RegExp(code.replaceAll(".", "\\.")));
    }
    for (const code of ["Unsupported", "InsufficientFreeAddressesInSubnet"]) {
      lateMs += 3600_000;
      amazon.fault = faultOf("RunInstances", () => ({ code }));
      await assert.rejects(make(strict), { kind: "no_capacity" }, code);
    }
    assert.deepEqual(await living(), []);
  });

  it("repeats the same request after a pause when it was too much", async () => {
    amazon.fault = faultOf("RunInstances", (n) =>
      n === 0 ? { code: "RequestLimitExceeded", status: 503 } : undefined,
    );
    await make();
    const [first, second, ...more] = runs();
    assert.deepEqual(more, []);
    assert.equal(first?.params.toString(), second?.params.toString());
  });

  it("asks again for an answer that got lost, and makes nothing twice", async () => {
    amazon.fault = faultOf("RunInstances", (n) => (n === 0 ? "lost" : undefined));
    const { handle } = await make();
    assert.equal(runs().length, 2);
    assert.deepEqual(await living(), [handle]);
  });

  it("gives the same machine after answers were lost, though no listing shows it", async () => {
    amazon.isBlind = true;
    amazon.fault = faultOf("RunInstances", () => "lost");
    await assert.rejects(make(), { kind: "unreachable" });
    assert.equal(await provider.destroy("none-1", never).catch((error) => error.kind), "invalid");
    amazon.fault = () => undefined;
    const { handle } = await make();
    assert.deepEqual(await living(), [handle]);
  });

  it("does not say gone while an unanswered request may have made it", async () => {
    amazon.isBlind = true;
    amazon.fault = faultOf("RunInstances", () => "lost");
    await assert.rejects(make(), { kind: "unreachable" });
    assert.equal(await provider.destroy(spec.name, never), "ending");
    lateMs = 61_000;
    assert.equal(await provider.destroy(spec.name, never), "gone");
    amazon.isBlind = false;
    // The sweep of the fleet sees it, and ends it.
    assert.deepEqual(
      (await provider.list(never)).map(({ name }) => name),
      [spec.name],
    );
    await destroyed(provider, spec.name);
  });

  for (const end of ["adopts", "ends"] as const) {
    it(`${end}, after a crash, what was launched and not noted`, async () => {
      amazon.fault = faultOf("RunInstances", () => "lost");
      await assert.rejects(make(), { kind: "unreachable" });
      const made = await living();
      assert.equal(made.length, 1);
      amazon.fault = () => undefined;
      await world.retire(provider);
      const next = await world.open();
      const [found, ...more] = await next.list(never);
      assert.deepEqual([found?.name, found?.handle, more], [spec.name, made[0], []]);
      if (end === "adopts") assert.equal((await make(next)).handle, made[0]);
      else await destroyed(next, spec.name);
      assert.deepEqual(await living(), end === "adopts" ? made : []);
    });
  }

  it("takes over an instance that its token made from other parameters", async () => {
    const { handle } = await make();
    const next = await world.open();
    let looked = 0;
    amazon.fault = ({ action }) => {
      amazon.isBlind = action === "DescribeInstances" && looked++ === 0;
      return undefined;
    };
    program = { ...program, deadlineSeconds: 301 };
    assert.equal((await make(next)).handle, handle);
    assert.deepEqual(await living(), [handle]);
  });

  it("ends the later of two that bear one name", async () => {
    amazon.fault = faultOf("RunInstances", (n) =>
      n === 0 ? { code: "InsufficientInstanceCapacity" } : undefined,
    );
    await make();
    const next = await world.open();
    amazon.isBlind = true;
    await make(next);
    amazon.isBlind = false;
    assert.equal((await living()).length, 2);
    const [kept, ...more] = await next.list(never);
    assert.deepEqual(more, []);
    assert.deepEqual(await living(), [kept?.handle]);
    assert.equal((await listed(provider, spec.name))[0]?.handle, kept?.handle);
  });

  it("lists what it just made before EC2 does, for a while", async () => {
    amazon.isBlind = true;
    const { handle } = await make();
    assert.deepEqual(
      (await provider.list(never)).map((machine) => machine.handle),
      [handle],
    );
    assert.equal((await make()).handle, handle);
    lateMs = 61_000;
    assert.deepEqual(await provider.list(never), []);
  });

  it("tells the end of one that ended by itself, until it is destroyed", async () => {
    const { handle } = await make();
    await amazon.ends(handle, "Client.InstanceInitiatedShutdown");
    const [seen] = await listed(provider, spec.name);
    assert.deepEqual([seen?.state, seen?.isInterrupted], ["ended", undefined]);
    assert.equal((await make()).state, "ended");
    assert.equal(await provider.destroy(spec.name, never), "gone");
    assert.deepEqual(await provider.list(never), []);
  });

  it("asks for no spot where the machine is to stay, unless spot is all there may be", async () => {
    spec = { ...spec, isOnDemand: true };
    await make();
    options = { market: "spot" };
    const onlySpot = await world.open();
    spec = { ...world.spec("2", provider), isOnDemand: true };
    await make(onlySpot);
    assert.deepEqual(runs().map(placeOf), ["on-demand c7i.large 0", "spot c7i.large 0"]);
    const [dear, cheap] = [true, false].map((kept) => provider.price(spec.size, kept));
    assert.ok(dear!.microUsdPerHour > cheap!.microUsdPerHour);
  });

  it("buys no spot where it was taken back twice", async () => {
    for (const suffix of ["a", "b"]) {
      spec = world.spec(suffix, provider);
      const { handle } = await make();
      await amazon.ends(handle, "Server.SpotInstanceTermination");
      const [seen] = await listed(provider, spec.name);
      assert.equal(seen?.end, "EC2 took its spot capacity back");
      assert.equal(seen.isInterrupted, true);
      await destroyed(provider, spec.name);
    }
    amazon.calls.length = 0;
    spec = world.spec("c", provider);
    await make();
    assert.deepEqual(runs().map(placeOf), ["spot c7i.large 1"]);
  });

  it("ends what outlived its deadline, whatever the manager knows of it", async () => {
    await make();
    lateMs = (300 + 16 * 60) * 1000;
    await provider.list(never);
    assert.deepEqual(await living(), []);
  });

  it("ends the others though EC2 does not know one", async () => {
    const names = ["a", "b", "c"].map((suffix) => world.spec(suffix, provider));
    for (const each of names) await provider.create(each, program, never);
    amazon.fault = faultOf("TerminateInstances", (n) =>
      n === 0 ? { code: "InvalidInstanceID.NotFound" } : undefined,
    );
    await Promise.all(names.map(({ name }) => provider.destroy(name, never)));
    assert.deepEqual(await living(), []);
  });

  it("looks many names up in one call", async () => {
    options = { readsPerSecond: 2 };
    const slow = await world.open();
    const names = Array.from({ length: 60 }, (_, n) => `${world.installation}-${n}`);
    await Promise.all(names.map((name) => slow.destroy(name, never)));
    assert.ok(amazon.count("DescribeInstances") <= 3, `${amazon.count("DescribeInstances")}`);
  });

  it("asks for careful settings, and says whose it is", async () => {
    const { handle } = await make();
    const { params } = runs()[0]!;
    const expected = {
      InstanceInitiatedShutdownBehavior: "terminate",
      "MetadataOptions.HttpTokens": "required",
      "MetadataOptions.HttpPutResponseHopLimit": "1",
      "BlockDeviceMapping.1.Ebs.Encrypted": "true",
      "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
      "NetworkInterface.1.SecurityGroupId.1": amazon.securityGroup,
      "TagSpecification.1.ResourceType": "instance",
      "TagSpecification.2.ResourceType": "volume",
      "IamInstanceProfile.Name": null,
    };
    for (const [key, value] of Object.entries(expected)) assert.equal(params.get(key), value, key);
    const told = await amazon.ask("DescribeInstances", { "InstanceId.1": handle });
    assert.match(told, /<httpTokens>required</);
    for (const [key, value] of [
      ["mayfly:machine", spec.name],
      ["mayfly:installation", world.installation],
      ["mayfly:deadline-seconds", "300"],
    ]) {
      assert.match(told, new RegExp(`<key>${key}</key><value>${value}<`));
    }
  });

  it("hands the secret files over through a parameter that is read once", async () => {
    amazon.boots = true;
    await amazon.role("reader");
    options = { claimBy: "parameter", instanceProfile: "reader" };
    const careful = await world.open();
    const secret = { path: "claim", mode: 0o600, content: 'it\'s only for "this" one' };
    program = world.program(spec.name, "stay", [], { files: [secret] });
    await make(careful);
    const voice = await world.voice(spec.name);
    assert.equal(voice.files["claim"]?.content, secret.content);
    const data = Buffer.from(runs()[0]?.params.get("UserData") ?? "", "base64");
    assert.doesNotMatch(gunzipSync(data).toString(), /only for/);
    await until("the parameter to be gone", async () => (await amazon.parameters()).length === 0);
    assert.ok(amazon.count("DeleteParameter") > 0);
    await destroyed(careful, spec.name);
  });

  it("ends the program gently when EC2 gives notice", async () => {
    amazon.boots = true;
    const { handle } = await make();
    await world.voice(spec.name);
    amazon.notice(handle);
    await until("its end", async () => (await listed(provider, spec.name))[0]?.state === "ended");
  });

  it("finds what is wrong before a machine is wanted", async () => {
    const well = await provider.check(never);
    assert.deepEqual(
      well.map(({ name, ok }) => [name, ok]),
      [
        ["account", true],
        ["subnets", true],
        ["security groups", true],
        ["identity of machines", true],
        ["image for x64", true],
        ["start for x64", true],
        ["end", true],
      ],
      JSON.stringify(well),
    );
    assert.equal((await living()).length, 0);
    amazon.fault = faultOf("RunInstances", () => ({ code: "UnauthorizedOperation", status: 403 }));
    const start = (await provider.check(never)).find(({ name }) => name === "start for x64");
    assert.equal(start?.ok, false);
    assert.match(start.mend ?? "", /permissions/);
    amazon.fault = () => ({ code: "AuthFailure", status: 401 });
    const [account, ...more] = await provider.check(never);
    assert.deepEqual([account?.ok, more], [false, []]);
    assert.match(account?.mend ?? "", /access key/);
  });

  it("prices spot by what EC2 says, billed by the second and at least a minute", async () => {
    const guess = provider.price(spec.size);
    assert.deepEqual(guess, { microUsdPerHour: 35_700, quantumSeconds: 1, minimumSeconds: 60 });
    await provider.list(never);
    const { microUsdPerHour } = provider.price(spec.size);
    assert.ok(microUsdPerHour > 0);
    const told = await amazon.ask("DescribeSpotPriceHistory", { "InstanceType.1": "c7i.large" });
    const prices = [...told.matchAll(/<spotPrice>([^<]+)/g)].map(([, price]) => Number(price));
    assert.equal(microUsdPerHour, Math.round(Math.min(...prices) * 1_000_000));
    options = { market: "on-demand", types: ["m7g"] };
    const arm = await world.open();
    const size = { ...spec.size, architecture: "arm64", memoryMb: 9_000 } as const;
    assert.equal(arm.price(size).microUsdPerHour, 163_200);
  });

  it("knows its types as EC2 does", async () => {
    for (const type of knownTypes()) {
      const told = await amazon.ask("DescribeInstanceTypes", { "InstanceType.1": type.name });
      const one = (key: string) => new RegExp(`<${key}>([^<]*)`).exec(told)?.[1];
      assert.equal(Number(one("defaultVCpus")), type.cpu, type.name);
      assert.equal(Number(one("sizeInMiB")), type.memoryMb, type.name);
      assert.equal(one("bareMetal"), String(type.isMetal), type.name);
      const architecture = type.architecture === "x64" ? "x86_64" : "arm64";
      assert.match(told, new RegExp(`<item>${architecture}</item>`), type.name);
    }
  });

  it("takes the newest image of an owner and a name", async () => {
    options = { image: "591542846629/al2023-ami-ecs-hvm-*-kernel-6.1-x86_64" };
    await make(await world.open());
    assert.match(runs()[0]?.params.get("ImageId") ?? "", /^ami-/);
    options = {
      image: "ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    };
    spec = world.spec("2", provider);
    await make(await world.open());
    assert.match(runs()[1]?.params.get("ImageId") ?? "", /^ami-/);
    options = { image: "ssm:/no/such" };
    spec = world.spec("3", provider);
    await assert.rejects(make(await world.open()), { kind: "invalid" });
  });
});
