import assert from "node:assert/strict";
import { test } from "node:test";
import { freePort } from "../../../test/ports.ts";
import { Secret } from "../../domain/secret.ts";
import { Budget, liveSuite, type LiveSettings } from "./live-suite.ts";
import { ec2Options } from "./options.ts";
import { Amazon, motoForTests } from "./testing.ts";

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
