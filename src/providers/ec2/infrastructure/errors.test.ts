import assert from "node:assert/strict";
import test from "node:test";
import { MayflyError } from "../../../domain/errors.ts";
import { adviceFor, explained } from "./errors.ts";

test("what people meet has advice", () => {
  // As AWS writes them.
  const said: readonly (readonly [string, RegExp])[] = [
    [
      "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its minimum value of [10].",
      /--front 0/,
    ],
    ["Template error: Fn::Select cannot select nonexistent value at index 2", /--zones 2/],
    ["Cannot delete entity, must delete access keys first. (Service: Iam)", /access key/],
    ["Cannot delete a policy attached to entities.", /attachment/],
    ["The vpc 'vpc-1' has dependencies and cannot be deleted.", /still uses it/],
    ["The maximum number of VPCs has been reached.", /Service Quotas/],
    ["User: x is not authorized to perform: iam:CreateUser", /administrator/],
  ];
  for (const [reason, advice] of said) assert.match(adviceFor(reason) ?? "", advice, reason);
  assert.equal(adviceFor("Resource handler returned message: whatever"), null);
});

test("a failure of AWS's SDK is told in our words", async () => {
  const failing = (name: string, message: string, $fault?: string) =>
    explained("ec2:DescribeInstances", async () => {
      throw Object.assign(new Error(message), { name, $fault });
    }).catch((error: unknown) => error as MayflyError);
  for (const [name, code] of [
    ["CredentialsProviderError", "unauthenticated"],
    ["UnrecognizedClientException", "unauthenticated"],
    ["UnauthorizedOperation", "forbidden"],
    ["ValidationError", "invalid"],
    ["TimeoutError", "unavailable"],
  ] as const) {
    const error = await failing(name, "said", name === "ValidationError" ? "client" : undefined);
    assert.ok(error instanceof MayflyError);
    assert.equal(error.code, code, name);
  }
  const long = await failing("ValidationError", "x".repeat(10_000), "client");
  assert.ok(long.message.length < 600);
});
