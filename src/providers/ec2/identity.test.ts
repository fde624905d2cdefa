import assert from "node:assert/strict";
import { createPublicKey, generateKeyPairSync, sign } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { gunzipSync } from "node:zlib";
import { eventually, Manager, scriptJob } from "../../../test/guests.ts";
import { Secret } from "../../domain/secret.ts";
import { history } from "../../store/facts.ts";
import { findRunner } from "../../store/questions.ts";
import { interruptedJobs } from "../../store/reruns.ts";
import { destroyed, never } from "../conformance-world.ts";
import type { MachineSpec, Provider } from "../provider.ts";
import { open } from "./ec2.ts";
import { identityKeys, readIdentity } from "./identity.ts";
import { Amazon, motoForTests, type Identity } from "./testing.ts";

const rsa = { modulusLength: 1024 };
const ours = generateKeyPairSync("rsa", rsa);
const base64 = (text: string | Buffer): string => Buffer.from(text).toString("base64");
const shown = ({ document, signature }: Identity): string => `${base64(document)}.${signature}`;
const told = {
  instanceId: "i-0123456789abcdef0",
  accountId: "123456789012",
  region: "eu-central-1",
  pendingTime: "2026-11-01T10:00:00Z",
};

const fault = (read: ReturnType<typeof readIdentity>): string =>
  typeof read === "string" ? read : "none";

describe("an identity document", () => {
  const read = (document: string, key = ours.privateKey) =>
    readIdentity(
      shown({ document, signature: base64(sign("sha256", Buffer.from(document), key)) }),
      [ours.publicKey],
    );

  it("is believed when the region's key signed its very bytes", () => {
    const identity = { instanceId: told.instanceId, accountId: told.accountId };
    assert.deepEqual(read(JSON.stringify(told)), {
      ...identity,
      region: told.region,
      launchedAt: Date.parse(told.pendingTime),
    });
    const document = JSON.stringify(told);
    const signature = base64(sign("sha256", Buffer.from(document), ours.privateKey));
    const tampered = document.replace("i-0", "i-1");
    const notSigned = "AWS did not sign the identity document that it showed";
    assert.equal(
      readIdentity(shown({ document: tampered, signature }), [ours.publicKey]),
      notSigned,
    );
    const stranger = generateKeyPairSync("rsa", rsa).privateKey;
    assert.equal(read(document, stranger), notSigned);
  });

  it("is refused when it is none, says nothing, or is too large", () => {
    assert.match(fault(readIdentity("", [ours.publicKey])), /no identity document/);
    assert.match(fault(readIdentity(".", [ours.publicKey])), /no identity document/);
    for (const bad of ["a", "a.b.c", "é.b", `.${base64("x")}`, `${base64("x")}.`]) {
      assert.match(fault(readIdentity(bad, [ours.publicKey])), /is no identity document/, bad);
    }
    for (const bad of ["{}", "null", "no json", JSON.stringify({ ...told, instanceId: "x" })]) {
      assert.match(fault(read(bad)), /does not say which instance/, bad);
    }
    assert.match(fault(read(JSON.stringify({ ...told, more: "x".repeat(5_000) }))), /too large/);
  });

  it("has a key for each region whose key AWS published, and a certificate for others", () => {
    for (const region of [
      "us-east-1",
      "eu-central-1",
      "ap-east-1",
      "cn-north-1",
      "us-gov-west-1",
    ]) {
      const [key, ...more] = identityKeys({ region });
      assert.equal(key?.asymmetricKeyType, "rsa", region);
      assert.deepEqual(more, []);
    }
    assert.deepEqual(identityKeys({ region: "mx-central-1" }), []);
    const text = (value: string) => new Secret({ kind: "file", name: "x" }, value);
    const bad = ["", "x", "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"];
    for (const pem of bad) {
      const options = { region: "us-east-1", identityCertificate: text(pem) };
      assert.throws(() => identityKeys(options), { kind: "invalid" });
    }
  });
});

const moto = await motoForTests();
const skip = typeof moto === "string" ? moto : false;

describe("a claim of the ec2 provider", { skip, timeout: 600_000 }, () => {
  let amazon: Amazon;
  let folder: string;
  let manager: Manager;
  let provider: Provider;
  let runner: string;
  let spec: MachineSpec;
  let lateMs: number;
  let tcp: { url: string; close: () => void };

  before(async () => {
    amazon = await Amazon.start((moto as { path: string }).path);
  });
  after(() => amazon.close());

  beforeEach(async () => {
    amazon.boots = false;
    amazon.isBlind = false;
    amazon.fault = () => undefined;
    amazon.identity = (id) => amazon.sign(amazon.document(id));
    lateMs = 0;
    folder = mkdtempSync(join(tmpdir(), "mayfly-identity-"));
    provider = await opened();
    manager = await Manager.open(folder, { providers: [provider] });
    tcp = await manager.listenTcp();
    amazon.guestFolders.set("test", dirname(manager.socket));
  });
  afterEach(async () => {
    amazon.isBlind = false;
    amazon.fault = () => undefined;
    try {
      await destroyed(provider, runner);
    } finally {
      tcp.close();
      await manager.close();
      await provider.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  function opened(): Promise<Provider> {
    const options = { ...amazon.options(), identityCertificate: amazon.certificate };
    return open(options, {
      name: "box",
      installation: "test",
      folder,
      guestFolder: folder,
      stateFolder: folder,
      now: () => Date.now() + lateMs,
      log: { info: () => {}, warn: () => {} },
    });
  }

  /** Makes the machine of a new runner; resolves to its instance's id. */
  async function make(by = provider): Promise<string> {
    const [name, program] = await manager.claimRunner([], "unix:{guest}");
    runner = name;
    const { architectures, maximum } = provider.lends();
    const size = { ...maximum, cpu: 1, memoryMb: 512, diskGb: 1, architecture: architectures[0]! };
    spec = { name, size, image: null, network: true, trust: ["trusted"] };
    return (await by.create(spec, program, never)).handle;
  }

  /** Redeems the claim that stands in the machine's user data, as a thief would. */
  async function redeem(proof: string, nonce = "ab".repeat(16)): Promise<Response> {
    const told = await amazon.ask("DescribeInstanceAttribute", {
      InstanceId: (await amazon.living("test"))[0]!,
      Attribute: "userData",
    });
    const data = /<value>([^<]+)/.exec(told)?.[1] ?? "";
    const script = gunzipSync(Buffer.from(data, "base64")).toString();
    const claim = /^claim=(.+)$/m.exec(script)?.[1] ?? "";
    assert.match(claim, /^test-small-/);
    return fetch(`${tcp.url}/v1/guest/redeem`, {
      method: "POST",
      headers: { authorization: `Bearer ${claim}` },
      body: new URLSearchParams({ nonce, proof }),
    });
  }
  const state = async () => (await findRunner(manager.store.db, runner))?.state;
  const proofOf = (id: string, other = {}) => shown(amazon.sign(amazon.document(id, other)));

  it("is redeemed by the machine itself", async () => {
    amazon.boots = true;
    await make();
    await eventually(async () => ((await state()) === "up" ? true : null));
  });

  it("is for one job, which is worth another try when EC2 gives notice", async () => {
    amazon.boots = true;
    const job = await manager.native.submit(scriptJob("echo ready; sleep 100"));
    const id = await make();
    await eventually(async () => ((await manager.job(job.id)).state === "started" ? true : null));
    amazon.notice(id);
    const ended = await manager.ended(job.id);
    assert.deepEqual([ended.outcome, ended.reason], ["lost", "its machine is taken back"]);
    assert.equal((await interruptedJobs(manager.store.db, "native", 0, 10)).length, 1);
  });

  it("is worth nothing to who copied it from the user data", async () => {
    const id = await make();
    const stranger = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
    const key = stranger.export({ type: "pkcs8", format: "pem" }).toString();
    const right = amazon.sign(amazon.document(id));
    const other = amazon.document("i-0fedcba9876543210");
    const attempts: [what: string, proof: string, status: number][] = [
      ["nothing at all", "", 403],
      ["another machine's document", shown(amazon.sign(other)), 403],
      ["the right text, another's signature", shown({ ...right, document: other }), 403],
      ["signed by another key", shown(amazon.sign(right.document, key)), 403],
      ["tampered", shown({ ...right, document: right.document.replace("2017", "2018") }), 403],
      ["another account", proofOf(id, { accountId: "999999999999" }), 403],
      ["another region", proofOf(id, { region: "us-east-2" }), 403],
      ["of another launch", proofOf(id, { pendingTime: "2020-01-01T00:00:00Z" }), 403],
      ["oversize", "x".repeat(9_000), 413],
      ["beyond all bounds", "x".repeat(20_000), 413],
    ];
    for (const [what, proof, status] of attempts) {
      const answer = await redeem(proof);
      assert.equal(answer.status, status, `${what}: ${await answer.text()}`);
      assert.equal(await state(), "claimed", what);
    }
    const notes = (await history(manager.store.db, runner)).filter(({ kind }) => kind === "failed");
    assert.equal(notes.length, 1);
    assert.match(notes[0]?.reason ?? "", /shown by another machine/);

    // The machine itself is not kept from it by all that; and after it nobody else has it.
    assert.equal((await redeem(shown(right))).status, 200);
    assert.equal(await state(), "up");
    assert.equal((await redeem(shown(right))).status, 200, "the same nonce: an answer was lost");
    assert.equal((await redeem(shown(right), "cd".repeat(16))).status, 409, "a replay");
  });

  it("waits for an instance that EC2 does not show yet", async () => {
    const id = await make();
    // Another replica made it, as far as this one knows.
    const other = await opened();
    const prove = other.prove!;
    try {
      amazon.isBlind = true;
      await assert.rejects(prove(runner, proofOf(id), never), { kind: "unreachable" });
      amazon.isBlind = false;
      // Lists by tags lag behind the instance itself.
      let asked = 0;
      amazon.fault = ({ action }) => {
        if (action === "DescribeInstances") amazon.isBlind = asked++ === 0;
        return undefined;
      };
      assert.equal(await prove(runner, proofOf(id), never), null);
      asked = 0;
      assert.match(
        String(await prove("test-small-other", proofOf(id), never)),
        /not the machine of this name/,
      );
      amazon.fault = ({ action }) =>
        action === "DescribeInstances" ? { code: "InternalError", status: 500 } : undefined;
      await assert.rejects(prove(runner, proofOf(id), never), { kind: "unreachable" });
    } finally {
      amazon.fault = () => undefined;
      await other.close();
    }
  });

  it("is not refused but asked for again while EC2 cannot be asked", async () => {
    const id = await make();
    lateMs = 61_000;
    amazon.fault = ({ action }) =>
      action === "DescribeInstances" ? { code: "Unavailable", status: 503 } : undefined;
    assert.equal((await redeem(proofOf(id))).status, 503);
    assert.equal(await state(), "claimed");
    amazon.fault = () => undefined;
    assert.equal((await redeem(proofOf(id))).status, 200);
  });

  it("is believed by itself where no key is known, and doctor says so", async () => {
    runner = "test-small-none";
    const options = { ...amazon.options(), region: "mx-central-1" };
    const context = { name: "box", installation: "test", folder, guestFolder: folder };
    const log = { info: () => {}, warn: () => {} };
    const blind = await open(options, { ...context, stateFolder: folder, now: Date.now, log });
    assert.equal(blind.prove, undefined);
    const check = (await blind.check(never)).find(({ name }) => name === "identity of machines");
    assert.deepEqual([check?.ok, check?.isOptional], [false, true]);
    assert.match(check?.mend ?? "", /identityCertificate/);
    await blind.close();
    const well = (await provider.check(never)).find(({ name }) => name === "identity of machines");
    assert.equal(well?.ok, true);
  });

  it("has its certificate's key in use, and no other", () => {
    const options = { region: "us-east-1", identityCertificate: amazon.certificate };
    const [key] = identityKeys(options);
    const [published] = identityKeys({ region: "us-east-1" });
    const text = (of: typeof key) => of?.export({ type: "spki", format: "pem" });
    assert.notEqual(text(key), text(published));
    assert.equal(text(key), text(createPublicKey(amazon.certificate.reveal())));
    runner = "test-small-none";
  });
});
