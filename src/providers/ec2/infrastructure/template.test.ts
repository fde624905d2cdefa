import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { suite } from "node:test";
import { promisify } from "node:util";
import fc from "fast-check";
import { motoForTests } from "../testing.ts";
import { idleCosts } from "./costs.ts";
import { changesBetween } from "./stack.ts";
import { defaultStack, synthesise, type StackOptions } from "./template.ts";

const installed = await motoForTests();
const skip = typeof installed === "string" ? installed : false;
const source = await readFile(join(import.meta.dirname, "front-handler.cjs"), "utf8");

const full: StackOptions = {
  zones: 3,
  installation: "abcde",
  manager: "role",
  parameter: true,
  front: 5,
};
const anyOptions = fc.record<StackOptions>({
  zones: fc.integer({ min: 1, max: 6 }),
  installation: fc.option(fc.stringMatching(/^[a-z0-9]{1,30}$/)),
  manager: fc.constantFrom("user", "role", "none"),
  parameter: fc.boolean(),
  front: fc.option(fc.integer({ min: 0, max: 1_000 })),
});

/** Every `{ key: value }` in a template, however deep. */
function* pairs(value: unknown): Generator<readonly [string, unknown]> {
  if (typeof value !== "object" || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    yield [key, inner];
    yield* pairs(inner);
  }
}

suite("the template", () => {
  test("names nothing that is not in it, and gives nothing a name that could be taken", () => {
    const names =
      /^(Group|Role|User|ManagedPolicy|InstanceProfile|Queue|Function|LogGroup|Stack)Name$/;
    fc.assert(
      fc.property(anyOptions, (options) => {
        const template = synthesise(options, source);
        const there = new Set(Object.keys(template.Resources));
        for (const [key, value] of pairs(template)) {
          if (key === "Ref") assert.ok(there.has(String(value)), String(value));
          if (key === "Fn::GetAtt") assert.ok(there.has((value as string[])[0]!), String(value));
          if (key === "DependsOn") assert.ok(there.has(String(value)));
          if (key === "Fn::Sub") {
            for (const [, name = ""] of String(value).matchAll(/\$\{([^}]+)\}/g)) {
              assert.ok(name.startsWith("AWS::") || there.has(name), name);
            }
          }
        }
        for (const { Type, Properties } of Object.values(template.Resources)) {
          for (const [key, value] of Object.entries(Properties)) {
            // A permission's function is one of ours, by reference.
            if (names.test(key)) assert.equal(typeof value, "object", `${Type} ${key}`);
          }
        }
      }),
    );
  });

  test("lets nothing in, and opens no more than its options say", () => {
    fc.assert(
      fc.property(anyOptions, (options) => {
        const template = synthesise(options, source);
        const text = JSON.stringify(template);
        assert.doesNotMatch(text, /Ingress|NatGateway|AccessKey/);
        const types = Object.values(template.Resources).map(({ Type }) => Type);
        assert.equal(types.includes("AWS::Lambda::Url"), options.front !== null);
        assert.equal(text.includes("iam:PassRole"), options.parameter);
        assert.equal(types.includes("AWS::IAM::User"), options.manager === "user");
        // What CloudFormation takes in a call.
        assert.ok(Buffer.byteLength(text) <= 51_200, String(text.length));
        for (const { Type, Properties } of Object.values(template.Resources)) {
          if (Type !== "AWS::IAM::ManagedPolicy") continue;
          // IAM counts without blanks; the longest ARN's parts are longer than what stands for them.
          const grown = JSON.stringify(Properties["PolicyDocument"]).replaceAll(
            /\$\{[^}]+\}/g,
            "x".repeat(24),
          );
          assert.ok(grown.length <= 6_144, `${grown.length}`);
        }
      }),
    );
  });

  test("is the same whenever it is made, and changes where its options do", () => {
    const before = synthesise(defaultStack, source);
    assert.deepEqual(changesBetween(before, synthesise({ ...defaultStack }, source)), []);
    const after = synthesise({ ...defaultStack, parameter: true, manager: "none" }, source);
    assert.deepEqual(
      changesBetween(before, after).map(({ change, resource }) => `${change} ${resource}`),
      ["add MachineRole", "add MachineProfile", "alter ManagerPolicy", "remove ManagerUser"],
    );
  });

  test("carries the front's source whole, and no secret to it", async () => {
    const { Properties } = synthesise(full, source).Resources["Front"]!;
    assert.deepEqual(Properties["Code"], { ZipFile: source });
    assert.deepEqual(Properties["Environment"], {
      Variables: { QUEUE_URL: { Ref: "FrontQueue" } },
    });
    assert.equal(Properties["ReservedConcurrentExecutions"], 5);
    const unbounded = synthesise({ ...full, front: 0 }, source).Resources["Front"]!;
    assert.ok(!("ReservedConcurrentExecutions" in unbounded.Properties));
  });

  test("costs next to nothing while nothing runs", () => {
    const sum = (options: StackOptions) =>
      idleCosts(options).reduce((total, { usdPerMonth }) => total + usdPerMonth, 0);
    assert.equal(sum(defaultStack), 0);
    assert.equal(sum(full).toFixed(2), "0.10");
  });

  test("is good by cfn-lint, every rule of it", { skip, timeout: 600_000 }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "mayfly-template-"));
    try {
      const kinds: StackOptions[] = [
        defaultStack,
        full,
        { ...full, manager: "none", front: 0, installation: null },
        { ...defaultStack, zones: 1, manager: "user", front: 1 },
      ];
      const files = kinds.map((_, n) => join(folder, `${n}.json`));
      for (const [n, options] of kinds.entries()) {
        await writeFile(files[n]!, JSON.stringify(synthesise(options, source)));
      }
      // I4010 asks for notes of a kind that only it reads.
      const strict = [
        "--include-checks",
        "I",
        "--include-experimental",
        "--ignore-checks",
        "I4010",
      ];
      const regions = ["--regions", "us-east-1", "eu-central-1", "ap-southeast-2"];
      const { linter } = installed as { linter: string };
      const lint = (some: readonly string[]) =>
        promisify(execFile)(linter, [...strict, ...regions, "--", ...some]).then(
          () => "",
          (error: { stdout?: string; stderr?: string }) => `${error.stdout}${error.stderr}`,
        );
      assert.equal(await lint(files), "");
      // It does look: a misspelt property, and an action that IAM does not know.
      const bad = JSON.stringify(synthesise(full, source))
        .replace("MapPublicIpOnLaunch", "MapPublicIp")
        .replace("ec2:DescribeSubnets", "ec2:DescribeSubnetz");
      await writeFile(files[0]!, bad);
      const said = await lint(files.slice(0, 1));
      assert.match(said, /MapPublicIp/);
      assert.match(said, /describesubnetz/i);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
