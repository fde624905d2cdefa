import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import test, { suite } from "node:test";
import fc from "fast-check";
import { parseConfig } from "../config/load.ts";
import { sampleSurroundings } from "../config/samples.ts";
import { ec2Options } from "../providers/ec2/options.ts";
import { defaultStack, type StackOptions } from "../providers/ec2/infrastructure/template.ts";
import { optionsFrom, regionOf } from "./aws-flags.ts";
import { snippet } from "./aws-snippet.ts";
import { kinds } from "./setting.ts";
import { mayfly } from "./testing.ts";

const outputs = {
  Subnets: "subnet-0a,subnet-0b",
  SecurityGroup: "sg-0a",
  MachineProfile: "mayfly-MachineProfile-1A2B",
  ManagerUser: "mayfly-ManagerUser-1A2B",
  FrontQueue: "https://sqs.eu-central-1.amazonaws.com/123456789012/mayfly-FrontQueue-1A2B",
  FrontUrl: "https://abc.lambda-url.eu-central-1.on.aws/",
};
const region = "eu-central-1";

/** A configuration as it is written, read as Mayfly reads it. */
function read(text: string) {
  const environment = { ID: "AKIA", KEY: "k" };
  const told = text.replaceAll("file:aws-key-id", "env:ID").replaceAll("file:aws-key", "env:KEY");
  return parseConfig(told, "mayfly.yaml", { ...sampleSurroundings({ environment }), kinds });
}

suite("what is printed for mayfly.yaml", () => {
  test("is a good configuration, whatever was put up", async () => {
    const shapes = fc.record<StackOptions>({
      zones: fc.constant(2),
      installation: fc.constantFrom(null, "abcde"),
      manager: fc.constantFrom("user", "role", "none"),
      parameter: fc.boolean(),
      front: fc.constantFrom(null, 0, 5),
    });
    await fc.assert(
      fc.asyncProperty(shapes, async (options) => {
        const { config, steps } = snippet({ name: "mayfly", region, options, outputs });
        const { providers, front } = await read(`${config}pools: { small: { provider: aws } }\n`);
        const ec2 = ec2Options
          .partial()
          .parse({ ...(providers[0]?.options as object), accessKey: undefined });
        assert.deepEqual(ec2.subnets, ["subnet-0a", "subnet-0b"]);
        assert.equal(ec2.instanceProfile, options.parameter ? outputs.MachineProfile : undefined);
        assert.equal(front?.queue, options.front === null ? undefined : outputs.FrontQueue);
        assert.equal(
          front?.accessKey != null,
          options.front !== null && options.manager === "user",
        );
        assert.match(steps.join("\n"), /mayfly doctor/);
        const address = `${outputs.FrontUrl}v1/forges/NAME/events`;
        assert.equal(steps.join("\n").includes(address), options.front !== null);
      }),
      { numRuns: 40 },
    );
  });

  test("is as the manual shows it", async () => {
    const page = await readFile(join(import.meta.dirname, "../../docs/aws.md"), "utf8");
    const samples = [...page.matchAll(/```yaml\n([^]*?)```/g)].map(([, sample = ""]) => sample);
    const text = samples.map((sample) => sample.replaceAll(/^ {3}/gm, "")).join("");
    const machines = snippet({ name: "mayfly", region, options: defaultStack, outputs }).config;
    const secrets = { "file:acme.pem": "env:PEM", "file:acme-webhook": "env:HOOK" };
    const environment = { ID: "AKIA", KEY: "k", PEM: "p", HOOK: "h" };
    let whole = `${machines}${samples[1] ?? ""}${(samples[0] ?? "").replaceAll(/^ {3}/gm, "")}`;
    assert.ok(text.includes("front:") && text.includes("pools:"));
    for (const [file, variable] of Object.entries(secrets)) whole = whole.replace(file, variable);
    whole = whole.replaceAll("file:aws-key-id", "env:ID").replaceAll("file:aws-key", "env:KEY");
    const config = await parseConfig(whole, "mayfly.yaml", {
      ...sampleSurroundings({ environment }),
      kinds,
    });
    assert.deepEqual([config.pools[0]?.provider, config.front?.region], ["aws", region]);
  });
});

suite("the flags of mayfly aws", () => {
  test("change only what they say", () => {
    const before: StackOptions = { ...defaultStack, front: 7, installation: "abcde", zones: 2 };
    assert.deepEqual(optionsFrom({}, before), before);
    assert.deepEqual(optionsFrom({ front: true }, before).front, 7);
    assert.deepEqual(optionsFrom({ front: true }, defaultStack).front, 5);
    assert.deepEqual(optionsFrom({ front: "0" }, before).front, 0);
    assert.deepEqual(optionsFrom({ front: false }, before).front, null);
    assert.deepEqual(optionsFrom({ installation: "any" }, before).installation, null);
    assert.deepEqual(optionsFrom({ parameter: true, zones: "4", manager: "none" }, before), {
      ...before,
      parameter: true,
      zones: 4,
      manager: "none",
    });
    const bad = [{ zones: "0" }, { zones: "x" }, { installation: "A*" }, { manager: "" }];
    for (const flags of [...bad, { front: "1.5" }, { front: "1001" }]) {
      assert.throws(() => optionsFrom(flags, before), { code: "invalid" }, JSON.stringify(flags));
    }
  });

  test("take the region that AWS's tools take", () => {
    assert.equal(regionOf({}, { AWS_REGION: "us-gov-west-1" }), "us-gov-west-1");
    assert.equal(regionOf({ region }, { AWS_REGION: "us-east-1" }), region);
    assert.throws(() => regionOf({ region: "nowhere" }, {}), { where: "--region" });
    assert.throws(() => regionOf({}, {}), /no region is named/);
  });

  test("print a template without asking anybody", async () => {
    const environment = { AWS_ENDPOINT_URL: "http://127.0.0.1:9" };
    const { code, stdout, stderr } = await mayfly(["aws", "template", "--front"], { environment });
    assert.deepEqual([code, stderr], [0, ""]);
    const { Resources } = JSON.parse(stdout) as { Resources: Record<string, object> };
    assert.ok("FrontUrl" in Resources && "Subnet3" in Resources);
  });
});
