import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { ForgeRequest } from "../forge.ts";
import type { GuestBirth } from "../guest-birth.ts";
import { NativeForge } from "./native.ts";
import type { Runner } from "../../domain/runner.ts";

const secret = "a secret of the forge";
const minted: GuestBirth[] = [];

const forge = new NativeForge({
  name: "native",
  secret,
  ledger: {
    guests: async () => ["m-small-a", "m-small-b"],
    remove: async (name) => (name === "m-small-a" ? "busy" : "gone"),
  },
  guestProgram: (birth) => {
    minted.push(birth);
    return { files: [], command: ["true"], environment: {}, deadlineSeconds: birth.lifeSeconds };
  },
  now: () => 1_800_000_000_000,
});

function signed(body: string, headers: Record<string, string> = {}): ForgeRequest {
  const signature = createHmac("sha256", secret).update(body).digest("hex");
  return {
    headers: {
      "x-mayfly-signature-256": `sha256=${signature}`,
      "x-mayfly-delivery": "d-0",
      ...headers,
    },
    body: Buffer.from(body),
  };
}

function event(value: unknown, headers: Record<string, string> = {}): ForgeRequest {
  return signed(JSON.stringify(value), headers);
}

const git = { kind: "git", url: "https://example.com/a/rocket", revision: "main" };

describe("an event", () => {
  test("is a submission", () => {
    const { sightings } = forge.verify(
      event({
        name: "unit",
        source: git,
        command: ["make", "test"],
        labels: ["linux"],
        pool: "small",
        trust: "trusted",
        environment: { A: "b" },
        timeoutSeconds: 60,
        artifacts: ["dist/**"],
      }),
    );
    const [job] = sightings;
    assert.equal(job?.name, "unit");
    assert.equal(job?.repository, "https://example.com/a/rocket");
    assert.deepEqual(job?.labels, ["linux", "small"]);
    assert.equal(job?.trust, "trusted");
    assert.deepEqual(job?.work, {
      source: git,
      command: ["make", "test"],
      environment: { A: "b" },
      timeoutSeconds: 60,
      artifacts: ["dist/**"],
    });
  });

  test("that says little is a stranger's target `test`", () => {
    const [job] = forge.verify(event({ source: git })).sightings;
    assert.equal(job?.trust, "fork");
    assert.deepEqual(job?.work?.command, ["mayfly-target", "test"]);
    assert.equal(job?.name, "test");
  });

  test("may hold several, and again gives them the same names", () => {
    const request = event(
      { jobs: [{ source: git }, { target: "lint" }] },
      {
        "x-mayfly-delivery": "d-1",
      },
    );
    const once = forge.verify(request);
    const twice = forge.verify(request);
    assert.equal(once.sightings.length, 2);
    assert.deepEqual(once, twice);
    assert.notEqual(once.sightings[0]?.externalId, once.sightings[1]?.externalId);
    const other = forge.verify(event({ source: git }, { "x-mayfly-delivery": "d-2" }));
    assert.notEqual(other.sightings[0]?.externalId, once.sightings[0]?.externalId);
  });

  test("may hold none", () => {
    assert.match(forge.verify(event({ jobs: [] })).note, /no jobs/);
  });
});

describe("an event is not let in", () => {
  const good = event({ source: git });
  const header = good.headers["x-mayfly-signature-256"] ?? "";
  for (const [name, signature] of [
    ["without a signature", undefined],
    ["with an empty one", ""],
    ["with the wrong one", `sha256=${"0".repeat(64)}`],
    ["with another kind", header.replace("sha256", "sha1")],
    ["with half of it", header.slice(0, -1)],
    ["with more than it", `${header}0`],
    ["with two", `${header}, ${header}`],
  ] as const) {
    test(name, () => {
      const request = { ...good, headers: { "x-mayfly-signature-256": signature } };
      assert.throws(() => forge.verify(request), { code: "unauthenticated" });
    });
  }

  test("with a byte changed", () => {
    const body = Buffer.from(good.body);
    body[5] = (body[5] ?? 0) ^ 1;
    assert.throws(() => forge.verify({ ...good, body }), { code: "unauthenticated" });
  });

  test("by a forge without a secret", () => {
    const closed = new NativeForge({
      name: "native",
      secret: null,
      ledger: { guests: async () => [], remove: async () => "gone" },
      guestProgram: () => assert.fail(),
      now: () => 0,
    });
    assert.throws(() => closed.verify(good), { code: "unauthenticated" });
  });
});

describe("an event is refused, naming the field, with", () => {
  for (const [name, value, where] of [
    ["no object", 5, "body"],
    ["an unknown key", { source: git, comand: [] }, "body"],
    ["no revision", { source: { kind: "git", url: "https://x/y" } }, "source.revision"],
    ["a hostile revision", { source: { ...git, revision: "--upload-pack=x" } }, "source.revision"],
    ["an empty command", { command: [] }, "command"],
    ["a NUL", { command: ["a\0"] }, "command[0]"],
    ["half a character", { command: ["a", "\ud800"] }, "command[1]"],
    ["a word that is none", { command: ["a", 5] }, "command[1]"],
    ["a long word", { command: ["x".repeat(200_000)] }, "command[0]"],
    ["command and target", { command: ["a"], target: "b" }, "target"],
    ["an option as target", { target: "--eval=x" }, "target"],
    ["a variable's wrong name", { environment: { "A=B": "c" } }, "environment.A=B"],
    ["an artifact outside", { artifacts: ["a", "../b"] }, "artifacts[1]"],
    ["an absolute artifact", { artifacts: ["/etc/passwd"] }, "artifacts[0]"],
    ["a timeout of nothing", { timeoutSeconds: 0 }, "timeoutSeconds"],
    ["a trust that is none", { trust: "root" }, "trust"],
    ["a digest that is none", { source: { kind: "tree", sha256: "../x" } }, "source.sha256"],
    ["a fault in the second", { jobs: [{ source: git }, { target: "-x" }] }, "jobs[1].target"],
    [
      "a fault in the second's shape",
      { jobs: [{ source: git }, { labels: [""] }] },
      "jobs[1].labels[0]",
    ],
    ["too many", { jobs: Array.from({ length: 101 }, () => ({})) }, "jobs"],
  ] as const) {
    test(name, () => {
      assert.throws(
        () => forge.verify(event(value)),
        (error: Error & Record<string, unknown>) => {
          assert.equal(error["code"], "invalid");
          assert.equal(error["where"], where);
          return true;
        },
      );
    });
  }

  test("no JSON, or no UTF-8", () => {
    for (const body of ["", "{", "[1,", "\u0000"]) {
      assert.throws(() => forge.verify(signed(body)), { code: "invalid", where: "body" });
    }
    const bytes = Buffer.from([0x22, 0xff, 0x22]);
    const signature = createHmac("sha256", secret).update(bytes).digest("hex");
    const headers = {
      "x-mayfly-signature-256": `sha256=${signature}`,
      "x-mayfly-delivery": "d-0",
    };
    assert.throws(() => forge.verify({ headers, body: bytes }), { code: "invalid" });
  });

  test("a delivery that is no name", () => {
    for (const delivery of ["", "a b", "x".repeat(201), "ü"]) {
      const request = event({ source: git }, { "x-mayfly-delivery": delivery });
      assert.throws(() => forge.verify(request), { code: "invalid" });
    }
  });

  test("whatever else JSON can say", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        try {
          forge.verify(event(value));
        } catch (error) {
          assert.equal((error as { code?: string }).code, "invalid");
        }
      }),
    );
  });
});

describe("a runner", () => {
  const runner = { name: "m-small-a", pool: "small" } as Runner;

  test("is given a guest that outlives its longest wait and its longest job", async () => {
    const context = {
      managerUrl: "unix:{guest}",
      claimToken: "claim",
      jobDeadlineSeconds: 3600,
      idleSeconds: 60,
    };
    const program = await forge.mint(runner, context);
    assert.deepEqual(await forge.mint(runner, context), program);
    const birth = minted.at(-1);
    assert.equal(birth?.claim, "claim");
    assert.equal(birth?.managerUrl, "unix:{guest}");
    assert.equal(birth?.jobSeconds, 3600);
    assert.ok((birth?.lifeSeconds ?? 0) >= 24 * 3600 + 3600);
  });

  test("is registered and removed as the ledger says", async () => {
    const names = (await forge.registrations()).map(({ name }) => name);
    assert.deepEqual(names, ["m-small-a", "m-small-b"]);
    assert.equal(await forge.remove("m-small-a"), "busy");
    assert.equal(await forge.remove("m-small-b"), "gone");
    assert.deepEqual(await forge.poll(), []);
  });

  test("takes what its labels offer", () => {
    assert.equal(forge.match([], ["linux"]), true);
    assert.equal(forge.match(["linux"], ["linux", "x64"]), true);
    assert.equal(forge.match(["gpu"], ["linux"]), false);
  });
});
