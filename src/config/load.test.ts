import assert from "node:assert/strict";
import { chmod, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { after, before, suite } from "node:test";
import { inspect } from "node:util";
import fc from "fast-check";
import { MayflyError } from "../domain/errors.ts";
import { Secret } from "../domain/secret.ts";
import type { Config } from "./config.ts";
import { loadConfig, parseConfig, type Surroundings } from "./load.ts";
import { ConfigError } from "./problems.ts";
import { sampleSurroundings } from "./samples.ts";

function parse(text: string, changes: Partial<Surroundings> = {}): Promise<Config> {
  return parseConfig(text, "mayfly.yaml", sampleSurroundings(changes));
}

/** What is said of `text`, a line a mistake, without the file's name. */
async function mistakes(text: string): Promise<string[]> {
  try {
    await parse(text);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError, `threw ${inspect(error)}`);
    return error.message.split("\n").map((line) => line.replace(/^mayfly\.yaml:/, ""));
  }
}

suite("no configuration at all", () => {
  test("gives native jobs half of this machine on what is found here", async () => {
    const config = await loadConfig(null, sampleSurroundings());
    assert.deepEqual(config.listen, { host: "127.0.0.1", port: 8420 });
    assert.equal(config.file, null);
    assert.equal(config.stateFolder, "/state");
    assert.deepEqual(config.forges, [{ name: "native", kind: "native", options: {} }]);
    assert.deepEqual(config.providers, [{ name: "host", kind: "host", options: {} }]);
    assert.deepEqual(config.warnings, ["podman does not work here"]);
    const [pool, ...more] = config.pools;
    assert.deepEqual(more, []);
    assert.equal(pool?.name, "default");
    assert.deepEqual(pool?.size, {
      cpu: 4,
      memoryMb: 8192,
      diskGb: 10,
      gpu: 0,
      architecture: "x64",
    });
    assert.equal(pool?.max, 2);
    assert.deepEqual(pool?.accept, ["trusted"]);
    assert.equal(pool?.network, false);
  });

  test("never offers less than 1 cpu and 1 GB, nor more machines than fit", async () => {
    const machine = { cpu: 1, memoryMb: 1500, diskGb: 5, gpu: 0, architecture: "arm64" } as const;
    const [pool] = (await parse("", { machine })).pools;
    assert.deepEqual(pool?.size, { ...machine, memoryMb: 1024, diskGb: 2 });
    assert.equal(pool?.max, 1);
  });

  test("an empty file, a comment and empty sections mean the same", async () => {
    const { pools } = await parse("");
    for (const text of ["# nothing yet\n", "forges:\nproviders:\nlisten:\n", "{}", "---\n"]) {
      assert.deepEqual((await parse(text)).pools, pools, text);
    }
  });
});

suite("a configuration", () => {
  test("is read in full", async () => {
    const config = await parse(
      `
listen: "[::1]:9000"
url: https://ci.example.org/
state: here
forges:
  acme:
    hub: { url: "https://hub.example", key: "env:HUB_KEY" }
providers:
  box:
    podman: { image: debian-13 }
pools:
  small:
    labels: [self-hosted, linux]
    size: 2cpu4gb
    maximum: 4cpu8gb
    perRepository: 3
    max: 10
    min: 1
    warm: 2
    schedule:
      - { days: [mon-fri, sunday], hours: "22:00-06:00", warm: 3 }
      - { warm: 1 }
    accept: [trusted]
    network: true
    boot: 90s
    learn: $20
    idle: 1h30m
    timeout: 2h
`,
      { environment: { HUB_KEY: "k" } },
    );
    assert.deepEqual(config.listen, { host: "::1", port: 9000 });
    assert.equal(config.url, "https://ci.example.org");
    assert.equal(config.stateFolder, join(process.cwd(), "here"));
    const [pool] = config.pools;
    assert.deepEqual(pool, {
      name: "small",
      forge: "acme",
      provider: "box",
      labels: ["self-hosted", "linux"],
      size: { cpu: 2, memoryMb: 4096, diskGb: 10, gpu: 0, architecture: "x64" },
      maximum: { cpu: 4, memoryMb: 8192, diskGb: 10, gpu: 0, architecture: "x64" },
      allow: [],
      deny: [],
      accept: ["trusted"],
      caps: { perRepository: 3, perOwner: null },
      max: 10,
      min: 1,
      warm: 2,
      schedule: [
        { days: [0, 1, 2, 3, 4, 5], from: 1320, to: 360, warm: 3 },
        { days: [], from: 0, to: 1440, warm: 1 },
      ],
      learn: { unit: "usd", amount: 20 },
      image: null,
      network: true,
      bootDeadlineSeconds: 90,
      idleSeconds: 5400,
      jobDeadlineSeconds: 7200,
    });
  });

  test("a front's queue tells its region, or has it told", async () => {
    const queue = "https://sqs.eu-central-1.amazonaws.com/123456789012/front";
    const key = "{ id: env:KEY_ID, secret: env:KEY }";
    const environment = { KEY_ID: "id", KEY: "key" };
    const { front } = await parse(`front: { queue: "${queue}", accessKey: ${key} }`, {
      environment,
    });
    assert.deepEqual([front?.queue, front?.region], [queue, "eu-central-1"]);
    assert.equal(front?.accessKey?.secret.reveal(), "key");
    assert.doesNotMatch(JSON.stringify(front), /"key"/);
    const own = await parse('front: { queue: "http://127.0.0.1:9324/front", region: us-east-1 }');
    assert.deepEqual([own.front?.region, own.front?.accessKey], ["us-east-1", null]);
    assert.equal((await parse("front:")).front, null);
    assert.deepEqual(await mistakes('front: { queue: "https://queue.example/front" }'), [
      "1:10: front.queue: its address tells no region; add `region`",
    ]);
  });

  test("a pool may name a kind that needs no options", async () => {
    const config = await parse("pools: { a: { provider: podman }, b: { provider: host } }");
    assert.deepEqual(
      config.providers.map(({ name, kind }) => [name, kind]),
      [
        ["podman", "podman"],
        ["host", "host"],
      ],
    );
    assert.deepEqual(config.warnings, [], "nothing had to be guessed");
  });

  test("one value may be used twice by an anchor", async () => {
    const { pools } = await parse("pools:\n  a: &a { max: 3 }\n  b: *a\n");
    assert.deepEqual(
      pools.map(({ name, max }) => [name, max]),
      [
        ["a", 3],
        ["b", 3],
      ],
    );
  });
});

suite("mistakes are told at their place, all at once", () => {
  const cases: Record<string, [text: string, told: string[]]> = {
    "misspelt keys and wrong values": [
      `pools:
  small:
    labls: [x]
    size: 2cpu4bg
    max: "10"
    min: -1
    warm: 1.5
    timeout: 90
    idle: soon
    accept: [frok]
    provider: podmn
    forge: github
    network: maybe
listen: 8420
url: foo
schedule: 1
`,
      [
        '3:5: pools.small.labls: unknown key; did you mean "labels"?',
        '4:5: pools.small.size: label "2cpu4bg": unknown unit "bg"; did you mean "gb"?; write it like "2cpu4gb" or "large arm64"',
        "5:5: pools.small.max: must be a number, not text",
        "6:5: pools.small.min: must be at least 0",
        "7:5: pools.small.warm: must be a whole number",
        '8:5: pools.small.timeout: must be text such as "1h", not a number',
        '9:5: pools.small.idle: "soon" is no duration up to 30d; write it like "90s", "5m" or "2h"',
        '10:14: pools.small.accept[0]: must be "trusted" or "fork"',
        '11:5: pools.small.provider: there is no provider "podmn"; did you mean "podman"?',
        '12:5: pools.small.forge: there is no forge "github"; known are native and hub',
        "13:5: pools.small.network: must be true or false, not text",
        '14:1: listen: must be text such as "127.0.0.1:8420", not a number',
        '15:1: url: is no url; write it like "https://ci.example.org"',
        "16:1: schedule: unknown key; known are listen, url, state, store, token, front, forges, providers, pools and broker",
      ],
    ],
    names: [
      "pools:\n  Big: {}\n  a-very-long-name-that-no-machine-can-bear: {}\n",
      [
        "2:3: pools.Big: is no name; take a-z, 0-9 and -, at most 31 of them, beginning with a letter or digit",
        "3:3: pools.a-very-long-name-that-no-machine-can-bear: is no name; take a-z, 0-9 and -, at most 31 of them, beginning with a letter or digit",
      ],
    ],
    "kinds and their options": [
      `providers:
  box:
    podmn:
  two:
    podman: { imag: 3 }
    host:
  bare:
  run:
    exec:
pools:
  a:
  b: { provider: exec }
`,
      [
        '3:5: providers.box.podmn: unknown key; did you mean "podman"?',
        "4:3: providers.two: must name exactly one kind; known are podman, host, exec",
        '5:15: providers.two.podman.imag: unknown key; did you mean "image"?',
        "7:3: providers.bare: must name exactly one kind; known are podman, host, exec",
        "9:5: providers.run.exec.command: is missing; it must be a list",
        '11:3: pools.a: has no provider, and there are several; add "provider: box" or another',
        '12:8: pools.b.provider: "exec" needs options; give them under providers',
      ],
    ],
    "what a kind says of its own options": [
      'providers: { run: { exec: { command: [], environment: { "a-b": x, A: 1 } } } }',
      [
        "1:29: providers.run.exec.command: must have at least 1 entry",
        "1:57: providers.run.exec.environment.a-b: must be the name of a variable",
        "1:67: providers.run.exec.environment.A: must be text, not a number",
      ],
    ],
    "limits that contradict each other": [
      "pools: { a: { min: 3, warm: 4, max: 2, size: 8cpu, maximum: 4cpu } }",
      [
        "1:15: pools.a.min: is above max; write at most 2",
        "1:23: pools.a.warm: is above max; write at most 2",
        "1:40: pools.a.size: is above maximum (8 cpu asked, 4 at most); raise maximum or lower size",
      ],
    ],
    schedules: [
      'pools: { a: { schedule: [{ days: [mo, fridy], hours: "8-9" }] } }',
      [
        "1:26: pools.a.schedule[0].warm: is missing; it must be a number",
        '1:35: pools.a.schedule[0].days[0]: "mo" is no day; write it like "mon-fri" or "sat"',
        '1:39: pools.a.schedule[0].days[1]: "fridy" is no day; did you mean "friday"?',
        '1:47: pools.a.schedule[0].hours: "8-9" are no hours; write them like "08:00-18:00" (UTC)',
      ],
    ],
    "keys that are there twice": [
      "listen: 127.0.0.1:1\npools:\n  a: {}\n  a: {}\nlisten: 127.0.0.1:2\n",
      [
        "4:3: pools.a: this key is here twice; remove one of them",
        "5:1: listen: this key is here twice; remove one of them",
      ],
    ],
    "a tab": ["pools:\n\ta: {}\n", ["2:1: a tab indents this line; YAML takes spaces only"]],
    "two documents": [
      "{}\n---\n{}\n",
      ["2:1: a second document begins here; keep one document in the file"],
    ],
    "a tag": ["state: !!js/function x\n", ["1:8: a tag (!…) means nothing here; leave it out"]],
    "an alias of nothing": ["state: *x\n", ["1:8: state: no anchor named &x comes before this"]],
    "a text": ["hello", ["1:1: must be keys with values, not text"]],
    "a list": ["- pools", ["1:1: must be keys with values, not a list"]],
    "an inherited name": [
      "pools: { a: { provider: constructor, __proto__: 1 } }",
      [
        '1:15: pools.a.provider: there is no provider "constructor"; known are podman, host and exec',
        "1:38: pools.a.__proto__: this cannot be a key; choose another name",
      ],
    ],
  };
  for (const [name, [text, told]] of Object.entries(cases)) {
    test(name, async () => assert.deepEqual(await mistakes(text), told));
  }

  test("little text cannot unfold to much", async () => {
    const bomb = Array.from({ length: 12 }, (_, level) => {
      const items = level === 0 ? "x" : `*a${level - 1}`;
      return `a${level}: &a${level} [${Array(10).fill(items).join(",")}]`;
    }).join("\n");
    const told = await mistakes(bomb);
    assert.ok(told.some((line) => line.endsWith("more than 20000 values; use fewer aliases")));
    for (const deep of ["[".repeat(50_000), "- ".repeat(50_000), "a: &a [*a]"]) {
      assert.ok((await mistakes(deep)).length > 0);
    }
  });

  test("no text makes it throw anything but a ConfigError", { timeout: 500_000 }, async () => {
    const words = [
      ["pools", "forges", "providers", "podman", "a", "size", "schedule", "- ", ": ", "\n", "  "],
      ["\t", "&x ", "*x", "[", "]", "{", "}", "!!map ", "|", "'", '"', "#", "? ", "<<", "env:A"],
      ["file:/nope", "constructor", "__proto__", "null", "1e999", ".nan", "\0", "%"],
    ].flat();
    const word = fc.constantFrom(...words);
    const junk = fc.oneof(
      fc.array(word, { maxLength: 40 }).map((words) => words.join("")),
      fc.string({ unit: "binary", maxLength: 100 }),
      // JSON is YAML, so this reaches the schema with every shape of value.
      fc.json({ maxDepth: 5 }),
      fc
        .dictionary(
          fc.constantFrom("pools", "forges", "providers", "store", "listen", "token", "state"),
          fc.dictionary(fc.constantFrom("a", "podman", "x-1", "postgres"), fc.jsonValue()),
        )
        .map((value) => JSON.stringify(value)),
    );
    await fc.assert(
      fc.asyncProperty(junk, async (text) => {
        await mistakes(text);
      }),
      { numRuns: 1500 },
    );
  });
});

suite("secrets", () => {
  let folder = "";
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "mayfly-config-"));
  });
  after(() => rm(folder, { recursive: true }));

  test("come from a file beside the configuration, and a careless mode is told", async () => {
    const file = join(folder, "mayfly.yaml");
    await writeFile(join(folder, "key"), "s3cret\n", { mode: 0o600 });
    await writeFile(file, "token: file:key\n");
    const config = await loadConfig(file, sampleSurroundings());
    assert.equal(config.token?.reveal(), "s3cret");
    assert.equal(
      config.warnings.some((warning) => warning.includes("others may read")),
      false,
    );

    await chmod(join(folder, "key"), 0o644);
    const careless = await loadConfig(file, sampleSurroundings());
    assert.deepEqual(careless.warnings.slice(0, 1), [
      `${join(folder, "key")} holds a secret and others may read it; run: chmod 600 ${join(folder, "key")}`,
    ]);
  });

  test("leave the environment once read, also when used twice", async () => {
    const environment = { PG: "postgres://u:p@h/d", OTHER: "stays" };
    const config = await parse("token: env:PG\nstore: { postgres: env:PG }\n", { environment });
    assert.equal(config.postgres?.reveal(), "postgres://u:p@h/d");
    assert.equal(config.token?.reveal(), "postgres://u:p@h/d");
    assert.deepEqual(environment, { OTHER: "stays" });
  });

  test("are never shown, however they are printed", async () => {
    const { token, ...rest } = await parse("token: env:T\n", { environment: { T: "hunter2" } });
    assert.ok(token instanceof Secret);
    const shown = [
      String(token),
      JSON.stringify({ token, rest }),
      inspect({ token }, { depth: 9, showHidden: true }),
      inspect({ token }, { depth: 9, customInspect: false }),
      Object.values(token).map(String).join(),
    ].join("\n");
    assert.doesNotMatch(shown, /hunter2/);
    assert.match(shown, /\[secret\]/);
  });

  test("written inline are refused without being repeated", async () => {
    const told = await mistakes("token: hunter2\nforges: { a: { native: { secret: hunter2 } } }");
    assert.deepEqual(told, [
      "1:1: token: a secret is never written here; put it in a file and write file:PATH, or env:NAME for a variable",
      "2:26: forges.a.native.secret: a secret is never written here; put it in a file and write file:PATH, or env:NAME for a variable",
    ]);
  });

  test("that are missing, empty or no file are mistakes at their place", async () => {
    await writeFile(join(folder, "empty"), "\n", { mode: 0o600 });
    const told = await mistakes(
      `token: file:${folder}/none
store: { postgres: "env:NOPE" }
forges:
  a: { native: { secret: "file:${folder}" } }
  b: { native: { secret: "file:${folder}/empty" } }
pools: { p: { forge: a } }
`,
    );
    assert.deepEqual(told, [
      `1:1: token: ${folder}/none cannot be read: there is no such file; write the secret there, alone`,
      "2:10: store.postgres: the variable NOPE is not set; set it where Mayfly is started",
      `4:18: forges.a.native.secret: ${folder} cannot be read: it is a folder; write the secret there, alone`,
      `5:18: forges.b.native.secret: ${folder}/empty is empty; write the secret there, alone`,
    ]);
  });
});

suite("a file that cannot be read", () => {
  test("is a ConfigError that says why", async () => {
    const folder = await mkdtemp(join(tmpdir(), "mayfly-config-"));
    try {
      await writeFile(join(folder, "latin1.yaml"), Buffer.from([0x61, 0x3a, 0xe9]));
      await writeFile(join(folder, "large.yaml"), "#".repeat(1024 * 1024 + 1));
      const expected: Record<string, RegExp> = {
        "none.yaml": /none\.yaml:1:1: cannot be read: there is no such file/,
        "": /cannot be read: it is a folder/,
        "latin1.yaml": /it is not UTF-8 text$/,
        "large.yaml": /it has 1048577 bytes, at most 1048576 are read$/,
      };
      for (const [name, message] of Object.entries(expected)) {
        await assert.rejects(loadConfig(join(folder, name), sampleSurroundings()), (error) => {
          assert.ok(error instanceof ConfigError && error instanceof MayflyError);
          assert.match(error.message, message);
          return true;
        });
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
