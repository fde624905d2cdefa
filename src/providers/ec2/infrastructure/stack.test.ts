import assert from "node:assert/strict";
import { after, before, beforeEach, suite, test } from "node:test";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { mayfly } from "../../../cli/testing.ts";
import { never, World } from "../../conformance-world.ts";
import { ec2Options } from "../options.ts";
import { open } from "../ec2.ts";
import { Amazon, motoForTests, type Installed } from "../testing.ts";
import type { Template } from "./cloudformation.ts";
import { StackDesk, type StackEvent } from "./stack.ts";
import { defaultStack, synthesise, type StackOptions } from "./template.ts";

/*
 * Stacks are put up and taken down for real, by moto's CloudFormation. What it does not do: events
 * of single resources (told here by hand), function URLs (left out here), changing a policy, and
 * taking apart policies and what a network's ways out are made of (done by the proxy, by EC2's and
 * IAM's own calls).
 */

const installed = await motoForTests();
const skip = typeof installed === "string" ? installed : false;
const source = await readFile(join(import.meta.dirname, "front-handler.cjs"), "utf8");

let amazon: Amazon;
let world: World | null = null;

suite("a stack", { skip, timeout: 600_000 }, () => {
  before(async () => {
    amazon = await Amazon.start((installed as Installed).path);
    process.env["AWS_ENDPOINT_URL"] = amazon.url;
  });
  after(async () => {
    amazon.fault = () => undefined;
    await world?.close();
    delete process.env["AWS_ENDPOINT_URL"];
    return amazon.close();
  });
  beforeEach(() => {
    amazon.fault = () => undefined;
    amazon.calls.length = 0;
  });

  const aws = (...args: string[]) => {
    const keys = { AWS_ACCESS_KEY_ID: "tested", AWS_SECRET_ACCESS_KEY: "tested" };
    const environment = { ...keys, AWS_ENDPOINT_URL: amazon.url, AWS_REGION: "us-east-1" };
    return mayfly(["aws", ...args], { environment });
  };
  const json = async (...args: string[]) => {
    const { code, stdout, stderr } = await aws(...args, "--json");
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as { outcome: string; outputs: Record<string, string> };
  };

  test("is put up, makes a machine, is changed, and leaves nothing when it is taken down", async () => {
    const before = await inventory();
    const plan = await aws("up", "--dry-run");
    assert.equal(plan.code, 0, plan.stderr);
    assert.match(plan.stdout, /\+ Network +AWS::EC2::VPC/);
    assert.match(plan.stdout, /0\.00 US dollars a month/);
    assert.deepEqual(await inventory(), before);

    // Nobody is there to be asked.
    const unasked = await aws("up");
    assert.equal(unasked.code, 64);
    assert.match(unasked.stderr, /--yes/);
    assert.deepEqual(await inventory(), before);

    const { outcome, outputs } = await json("up", "--yes");
    assert.equal(outcome, "made");
    const other = await json("up", "--yes", "--name", "another");
    assert.notEqual(other.outputs["Network"], outputs["Network"]);

    world = await machineIn(outputs);
    assert.equal((await json("up", "--yes")).outcome, "unchanged");
    const changed = await json("up", "--yes", "--installation", world.installation);
    // Moto forgets the output of a policy that it changes.
    assert.deepEqual([changed.outcome, { ...outputs, ...changed.outputs }], ["changed", outputs]);
    // What the flags do not say stays as it is.
    assert.equal((await json("up", "--yes")).outcome, "unchanged");
    const status = await aws("status");
    assert.match(
      status.stdout,
      new RegExp(`machines +i-\\w+ ${world.installation}-1 \\(running\\)`),
    );

    const stranger = await strangerIn(outputs["Subnets"]!.split(",")[0]!);
    const refused = await aws("down", "--yes");
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, new RegExp(`not ours: ${stranger}`));
    assert.equal((await amazon.living(world.installation)).length, 1);
    await amazon.ask("TerminateInstances", { "InstanceId.1": stranger });

    amazon.calls.length = 0;
    const down = await aws("down", "--yes");
    assert.equal(down.code, 0, down.stderr);
    assert.match(down.stdout, /nothing is left/);
    assert.deepEqual(
      amazon.calls.map(({ action }) => action).filter((action) => /^(Term|DeleteS)/.test(action)),
      ["TerminateInstances", "DeleteStack"],
    );
    assert.equal((await aws("down", "--yes", "--name", "another")).code, 0);
    assert.deepEqual(await inventory(), before);
    assert.deepEqual(await amazon.living(world.installation), []);
    assert.match((await aws("down", "--yes")).stdout, /nothing to take down/);
  });

  test("turns a user into a role, and has a front", async () => {
    const before = await inventory();
    const desk = deskOf("shapes");
    const put = async (options: StackOptions) => {
      const found = await desk.find();
      return desk.put(found, withoutUrl(synthesise(options, source)), options);
    };
    assert.equal(await put(defaultStack), "made");
    const shape = { ...defaultStack, manager: "role", parameter: true, front: 5 } as const;
    assert.equal(await put(shape), "changed");
    const found = (await desk.find())!;
    assert.deepEqual(found.options, shape);
    assert.match(found.outputs["FrontQueue"]!, /\/shapes-FrontQueue-/);
    assert.match(found.outputs["MachineProfile"]!, /^shapes-MachineProfile-/);
    await desk.remove(found);
    assert.equal(await desk.find(), null);
    assert.deepEqual(await inventory(), before);
    desk.close();
  });

  test("of another program is left alone", async () => {
    const body = { Resources: { Queue: { Type: "AWS::SQS::Queue" } } };
    const about = { Version: "2010-05-15", StackName: "theirs" };
    const make = { Action: "CreateStack", TemplateBody: JSON.stringify(body) };
    await amazon.query("cloudformation", { ...about, ...make });
    for (const command of ["up", "down"]) {
      const refused = await aws(command, "--yes", "--name", "theirs");
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /not of Mayfly's/);
    }
    assert.equal(amazon.count("DeleteStack") + amazon.count("UpdateStack"), 0);
    await amazon.query("cloudformation", { ...about, Action: "DeleteStack" });
  });

  test("that fails names the resource that failed first, its reason, and what helps", async () => {
    const told: StackEvent[] = [];
    const desk = deskOf("fails", { tell: (event) => told.push(event) });
    const events = [
      ["Front", "AWS::Lambda::Function", "CREATE_IN_PROGRESS", ""],
      [
        "Front",
        "AWS::Lambda::Function",
        "CREATE_FAILED",
        "decreases account's UnreservedConcurrentExecution below its minimum value of [10]",
      ],
      ["Subnet1", "AWS::EC2::Subnet", "CREATE_FAILED", "Resource creation cancelled"],
      ["fails", "AWS::CloudFormation::Stack", "DELETE_IN_PROGRESS", "rolled back"],
      ["fails", "AWS::CloudFormation::Stack", "DELETE_COMPLETE", ""],
    ] as const;
    let looked = 0;
    amazon.fault = ({ action }) =>
      // One more each time, the newest first, as CloudFormation tells them.
      action === "DescribeStackEvents"
        ? { body: eventsXml(events.slice(0, ++looked).toReversed()) }
        : undefined;
    const failure = await desk
      .put(null, synthesise(defaultStack, source), defaultStack)
      .catch((error) => error);
    assert.match(failure.message, /^Front \(AWS::Lambda::Function\) failed: decreases/);
    assert.match(failure.hint, /--front 0/);
    assert.deepEqual(
      told.map(({ resource, status }) => `${resource} ${status}`),
      events.map(([resource, , status]) => `${resource} ${status}`),
    );
    amazon.fault = () => undefined;
    await desk.remove((await desk.find())!);
    desk.close();
  });

  test("that takes too long, or is changed by somebody else, is told so", async () => {
    let now = 0;
    const desk = deskOf("slow", {
      now: () => now,
      sleep: async () => void (now += 60_000),
      deadlineMs: 600_000,
    });
    const template = synthesise(defaultStack, source);
    const begun = ["slow", "AWS::CloudFormation::Stack", "CREATE_IN_PROGRESS", ""] as const;
    amazon.fault = ({ action }) => {
      if (action === "DescribeStackEvents") return { body: eventsXml([begun]) };
      return action === "DescribeStacks" ? { body: stackXml("CREATE_IN_PROGRESS") } : undefined;
    };
    await assert.rejects(desk.put(null, template, defaultStack), {
      code: "unavailable",
      message: /still at CREATE_IN_PROGRESS/,
    });
    assert.ok(now >= 600_000);
    const found = await desk.find();
    await assert.rejects(desk.put(found, template, defaultStack), /is at CREATE_IN_PROGRESS/);
    amazon.fault = ({ action }) =>
      action === "DescribeStacks" ? { body: stackXml("ROLLBACK_COMPLETE") } : undefined;
    await assert.rejects(desk.put(await desk.find(), template, defaultStack), {
      hint: /aws down/,
    });
    amazon.fault = () => undefined;
    await desk.remove((await desk.find())!);
    desk.close();
  });

  test("is not taken for done before it has begun", async () => {
    const template = synthesise(defaultStack, source);
    const desk = deskOf("lags");
    await desk.put(null, template, defaultStack);
    const found = await desk.find();
    const old = eventsXml([["lags", "AWS::CloudFormation::Stack", "CREATE_COMPLETE", ""]]);
    const fresh = eventsXml([
      ["lags", "AWS::CloudFormation::Stack", "UPDATE_COMPLETE", ""],
      ["lags", "AWS::CloudFormation::Stack", "CREATE_COMPLETE", ""],
    ]);
    let looks = 0;
    amazon.fault = ({ action }) => {
      if (action === "UpdateStack") return { body: result("UpdateStack", "<StackId>x</StackId>") };
      if (action !== "DescribeStackEvents") return undefined;
      // As it was, and once more.
      return { body: ++looks < 4 ? old : fresh };
    };
    const wider = { ...defaultStack, zones: 2 };
    assert.equal(await desk.put(found, synthesise(wider, source), wider), "changed");
    assert.equal(looks, 4);
    amazon.fault = () => undefined;
    await desk.remove((await desk.find())!);
    desk.close();
  });

  test("without a right or a way to AWS says what to do", async () => {
    amazon.fault = () => ({ code: "AccessDenied", status: 403 });
    const forbidden = await aws("up", "--yes");
    assert.equal(forbidden.code, 77);
    assert.match(forbidden.stderr, /administrator/);
    amazon.fault = () => ({ code: "ExpiredToken", status: 403 });
    assert.equal((await aws("status")).code, 77);
    const nowhere = await mayfly(["aws", "status"], { environment: {} });
    assert.equal(nowhere.code, 64);
    assert.match(nowhere.stderr, /--region/);
  });
});

function deskOf(name: string, more: Partial<ConstructorParameters<typeof StackDesk>[0]> = {}) {
  const pause = (ms: number, signal: AbortSignal) => sleep(ms, undefined, { signal });
  return new StackDesk({
    region: "us-east-1",
    name,
    now: () => Date.now(),
    sleep: pause,
    tell: () => {},
    signal: never,
    deadlineMs: 300_000,
    pollMs: 10,
    ...more,
  });
}

/** Moto knows no function URLs. */
function withoutUrl(template: Template): Template {
  const drop = <T>(map: Readonly<Record<string, T>>) =>
    Object.fromEntries(Object.entries(map).filter(([name]) => name !== "FrontUrl"));
  return { ...template, Resources: drop(template.Resources), Outputs: drop(template.Outputs) };
}

/** The provider, as the stack's outputs configure it, with a machine that it made. */
async function machineIn(outputs: Record<string, string>): Promise<World> {
  const made = await World.make((context) => {
    const options = ec2Options.parse({
      region: "us-east-1",
      subnets: outputs["Subnets"]!.split(","),
      securityGroups: [outputs["SecurityGroup"]],
      image: amazon.image,
      endpoint: amazon.url,
      runsPerSecond: 1_000,
      readsPerSecond: 1_000,
    });
    return open(options, context);
  });
  const provider = await made.open();
  for (const { ok, name, detail } of await provider.check(never)) {
    assert.ok(ok, `${name}: ${detail}`);
  }
  const spec = made.spec("1", provider);
  await provider.create(spec, made.program(spec.name, "stay"), never);
  return made;
}

async function strangerIn(subnet: string): Promise<string> {
  const asked = { MinCount: "1", MaxCount: "1", ImageId: amazon.image, SubnetId: subnet };
  const answer = await amazon.ask("RunInstances", { ...asked, InstanceType: "t3.micro" });
  return /<instanceId>([^<]+)/.exec(answer)![1]!;
}

/** All that a stack may make, by what AWS calls it. */
async function inventory(): Promise<Record<string, readonly string[]>> {
  const found: Record<string, readonly string[]> = {};
  const ids = (text: string, tag: string) =>
    [...text.matchAll(new RegExp(`<${tag}>([^<]+)`, "g"))].map(([, id = ""]) => id).toSorted();
  for (const [what, tag] of [
    ["Vpcs", "vpcId"],
    ["Subnets", "subnetId"],
    ["SecurityGroups", "groupId"],
    ["RouteTables", "routeTableId"],
    ["InternetGateways", "internetGatewayId"],
  ] as const) {
    found[what] = ids(await amazon.ask(`Describe${what}`), tag);
  }
  const iam = { Version: "2010-05-08", Scope: "Local" };
  for (const [what, tag] of [
    ["Users", "UserName"],
    ["Roles", "RoleName"],
    ["InstanceProfiles", "InstanceProfileName"],
    ["Policies", "PolicyName"],
  ] as const) {
    found[what] = ids(await amazon.query("iam", { ...iam, Action: `List${what}` }), tag);
  }
  const queues = { Version: "2012-11-05", Action: "ListQueues" };
  found["Queues"] = ids(await amazon.query("sqs", queues), "QueueUrl");
  return found;
}

function eventsXml(events: readonly (readonly [string, string, string, string])[]): string {
  const members = events.map(
    ([name, type, status, reason]) =>
      `<member><EventId>${name}-${status}</EventId><LogicalResourceId>${name}</LogicalResourceId><ResourceType>${type}</ResourceType><ResourceStatus>${status}</ResourceStatus><ResourceStatusReason>${reason}</ResourceStatusReason><Timestamp>${new Date().toISOString()}</Timestamp><StackId>x</StackId><StackName>x</StackName></member>`,
  );
  return result("DescribeStackEvents", `<StackEvents>${members.join("")}</StackEvents>`);
}

function stackXml(status: string): string {
  const tags = "<Tags><member><Key>mayfly:stack</Key><Value>1</Value></member></Tags>";
  const stack = `<StackId>slow</StackId><StackName>slow</StackName><StackStatus>${status}</StackStatus><CreationTime>2026-01-01T00:00:00Z</CreationTime>${tags}`;
  return result("DescribeStacks", `<Stacks><member>${stack}</member></Stacks>`);
}

function result(action: string, inner: string): string {
  return `<${action}Response xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"><${action}Result>${inner}</${action}Result></${action}Response>`;
}
