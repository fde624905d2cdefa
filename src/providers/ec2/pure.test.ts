import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { gunzipSync } from "node:zlib";
import fc from "fast-check";
import type { Program } from "../../domain/program.ts";
import { guestProgram } from "../../guest/program.ts";
import { Breaker } from "./breaker.ts";
import { chosen, type Seen } from "./instances.ts";
import { ec2Options } from "./options.ts";
import { Batch } from "./pace.ts";
import { fitting, typesOf } from "./types.ts";
import { secretScript, userData } from "./user-data.ts";

const minuteMs = 60_000;

describe("a place that was empty", () => {
  it("rests longer each time, up to ten minutes, and starts anew when it was not", () => {
    let now = 1_000;
    const breaker = new Breaker(() => now);
    const rests: number[] = [];
    for (let n = 0; n < 6; n++) {
      breaker.empty("a");
      rests.push((breaker.closedUntil("a") - now) / minuteMs);
      now = breaker.closedUntil("a");
      assert.equal(breaker.closedUntil("a"), 0);
    }
    assert.deepEqual(rests, [1, 2, 4, 8, 10, 10]);
    breaker.fine("a");
    breaker.empty("a");
    assert.equal(breaker.closedUntil("a") - now, minuteMs);
    assert.equal(breaker.closedUntil("b"), 0);
  });

  it("rests half an hour after two interruptions within a quarter", () => {
    let now = 0;
    const breaker = new Breaker(() => now);
    breaker.interrupted("a");
    now = 16 * minuteMs;
    breaker.interrupted("a");
    assert.equal(breaker.closedUntil("a"), 0);
    now += 14 * minuteMs;
    breaker.interrupted("a");
    assert.equal(breaker.closedUntil("a"), now + 30 * minuteMs);
  });
});

describe("questions that are gathered", () => {
  it("go in one call at a time, each answered, up to the most", async () => {
    const calls: (readonly number[])[] = [];
    let atOnce = 0;
    const batch = new Batch<number, number>(
      10,
      async () => {},
      async (keys) => {
        assert.equal(++atOnce, 1);
        calls.push(keys);
        await new Promise(setImmediate);
        atOnce -= 1;
        return (key) => key * 2;
      },
    );
    const keys = Array.from({ length: 35 }, (_, n) => n);
    const answers = await Promise.all([...keys, 0, 1].map((key) => batch.ask(key)));
    assert.deepEqual(
      answers,
      [...keys, 0, 1].map((key) => key * 2),
    );
    assert.ok(calls.length <= 5 && calls.every((call) => call.length <= 10));
  });

  it("fail together, and the next do not", async () => {
    let fails = true;
    const batch = new Batch<string, string>(
      10,
      async () => {},
      async () => {
        if (fails) throw new Error("no");
        return (key) => key;
      },
    );
    const settled = await Promise.allSettled(["a", "b"].map((key) => batch.ask(key)));
    assert.deepEqual(
      settled.map(({ status }) => status),
      ["rejected", "rejected"],
    );
    fails = false;
    assert.equal(await batch.ask("a"), "a");
  });

  it("fail when they are not let through", async () => {
    const batch = new Batch<string, string>(
      10,
      () => Promise.reject(new Error("full")),
      async () => (key) => key,
    );
    await assert.rejects(batch.ask("a"), /full/);
    await assert.rejects(batch.ask("a"), /full/);
  });
});

describe("instances of one name", () => {
  const seen = (id: string, state: string, launchedAt: number): Seen => {
    const rest = {
      name: "a-1",
      deadlineSeconds: 60,
      isSpot: true,
      type: "",
      subnet: "",
      account: "",
      reason: "",
    };
    return { id, state, launchedAt, ...rest };
  };

  it("have one that everyone chooses, in whatever order they are shown", () => {
    const states = fc.constantFrom("pending", "running", "shutting-down", "terminated");
    const some = fc.uniqueArray(fc.record({ id: fc.nat(50), state: states, at: fc.nat(3) }), {
      selector: ({ id }) => id,
      minLength: 1,
    });
    fc.assert(
      fc.property(some, fc.infiniteStream(fc.nat()), (drawn, chance) => {
        const all = drawn.map(({ id, state, at }) => seen(`i-${id}`, state, at));
        const shuffled = all
          .map((each) => ({ each, key: Number(chance.next().value) }))
          .sort((a, b) => a.key - b.key)
          .map(({ each }) => each);
        const one = chosen(all);
        assert.equal(chosen(shuffled), one);
        const isAlive = ({ state }: Seen) => state === "pending" || state === "running";
        assert.equal(isAlive(one!), all.some(isAlive));
      }),
    );
  });
});

describe("instance types", () => {
  it("are tried by price, and fit what is asked for", () => {
    const types = typesOf(["c7i", "m5", "c6g", "c5.metal"]);
    const size = { cpu: 3, memoryMb: 12_000, diskGb: 10, gpu: 0, architecture: "x64" } as const;
    const names = fitting(types, size).map(({ name }) => name);
    assert.deepEqual(names.slice(0, 3), ["m5.xlarge", "c7i.2xlarge", "m5.2xlarge"]);
    assert.ok(names.includes("c5.metal") && !names.includes("c7i.metal-24xl"));
    const arm = fitting(types, { ...size, architecture: "arm64" });
    assert.ok(arm.length > 0 && arm.every(({ name }) => name.startsWith("c6g.")));
  });

  it("that nobody knows have to be told", () => {
    for (const name of ["r7i", "c7i.huge", "constructor", "c5.toString"]) {
      assert.throws(() => typesOf([name]), { kind: "invalid" }, name);
    }
    const own = { architecture: "x64", cpu: 2, memoryMb: 16_384, usdPerHour: 0.5 } as const;
    assert.equal(typesOf([{ name: "r7i.large", ...own }])[0]?.cpu, 2);
  });
});

describe("the options", () => {
  it("want a region, subnets and groups, and nothing strange in them", () => {
    const good = { region: "us-east-1", subnets: ["subnet-0a"], securityGroups: ["sg-0a"] };
    assert.ok(ec2Options.safeParse(good).success);
    for (const bad of [
      { region: undefined },
      { region: "us-east-1.evil.example" },
      { subnets: [] },
      { securityGroups: ["sg-1; x"] },
      { types: [] },
      { types: ["$(id)"] },
      { instanceProfile: "a b" },
      { runsPerSecond: 0 },
    ]) {
      assert.equal(ec2Options.safeParse({ ...good, ...bad }).success, false, JSON.stringify(bad));
    }
  });
});

describe("user data", () => {
  it("holds the whole guest", () => {
    const program = guestProgram({
      managerUrl: "https://ci.example.org:8443",
      claim: "c".repeat(128),
      jobSeconds: 86_400,
      lifeSeconds: 200_000,
    });
    const secret = { region: "ap-southeast-1", prefix: "/mayfly/abcdef" };
    for (const by of [null, secret]) userData({ program, isSpot: true, proves: true, secret: by });
  });

  it("is refused when it would be larger than EC2 takes", () => {
    const content = Array.from({ length: 30_000 }, (_, n) => (n * 7919) % 65_521).join("");
    const file = { path: "large", mode: 0o644, content };
    const program = { files: [file], command: ["true"], environment: {}, deadlineSeconds: 60 };
    assert.throws(() => userData({ program, isSpot: false, proves: false, secret: null }), {
      kind: "invalid",
    });
    const hidden = { ...program, files: [{ ...file, mode: 0o600 }] };
    assert.throws(() => secretScript(hidden), { kind: "invalid" });
  });

  it("is the same for the same program", () => {
    const program = guestProgram({ managerUrl: "a", claim: "b", jobSeconds: 1, lifeSeconds: 2 });
    const boot = { program, isSpot: true, proves: true, secret: null };
    assert.equal(userData(boot), userData(structuredClone(boot)));
  });

  it("gives any file, word and variable as it is, and shuts down", { timeout: 600_000 }, () => {
    const nul = (text: string): boolean => !text.includes("\0");
    const text = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.string(),
      fc.constant("a\n-\nEOF\n$(x)\n"),
    );
    const word = text.filter(nul);
    fc.assert(
      fc.property(fc.array(text, { maxLength: 3 }), fc.array(word, { maxLength: 3 }), word, booted),
      { numRuns: 25 },
    );
  });
});

/** Runs a boot script in a folder, as an instance would, and compares what came of it. */
function booted(contents: string[], words: string[], value: string): void {
  const folder = mkdtempSync(join(tmpdir(), "mayfly-ec2-"));
  try {
    const root = join(folder, "root");
    mkdirSync(join(folder, "bin"));
    const off = join(folder, "bin", "shutdown");
    writeFileSync(off, `#!/bin/sh\n[ "$2" = now ] || exit 0\n: >'${folder}/off'\nkill -KILL 0\n`);
    chmodSync(off, 0o755);
    const told = 'printf "%s\\0" "$V" "$@" >"$0"';
    const program: Program = {
      files: contents.map((content, n) => ({ path: `in/a b'${n}`, mode: 0o640, content })),
      command: ["sh", "-c", told, "{program}/told", ...words],
      environment: { V: value },
      deadlineSeconds: 60,
    };
    mkdirSync(root);
    const data = Buffer.from(
      userData({ program, isSpot: false, proves: false, secret: null }),
      "base64",
    );
    writeFileSync(join(folder, "script"), gunzipSync(data));
    const PATH = `${folder}/bin:/usr/bin:/bin`;
    const environment = { PATH, MAYFLY_ROOT: root };
    // In a session of its own: powering off ends all of it.
    spawnSync("setsid", ["--wait", "sh", join(folder, "script")], {
      env: environment,
      stdio: "ignore",
      timeout: 110_000,
    });
    statSync(join(folder, "off"));
    const expected = [value, ...words].map((each) => placed(each, root));
    const seen = readFileSync(join(root, "program", "told"), "utf8")
      .split("\0")
      .slice(0, -1);
    assert.deepEqual(
      seen,
      expected.map((each) => Buffer.from(each).toString()),
    );
    for (const [n, content] of contents.entries()) {
      const path = join(root, "program", `in/a b'${n}`);
      assert.deepEqual(readFileSync(path), Buffer.from(content));
      assert.equal(statSync(path).mode & 0o777, 0o640);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function placed(word: string, root: string): string {
  const places: Record<string, string> = {
    program: `${root}/program`,
    guest: `${root}/guest.sock`,
  };
  return word.replace(/\{(program|guest)\}/g, (_, key: string) => places[key] ?? "");
}
