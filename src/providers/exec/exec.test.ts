import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { ProviderError } from "../../domain/errors.ts";
import { Secret } from "../../domain/secret.ts";
import { conformance } from "../conformance.ts";
import { never, until } from "../conformance-world.ts";
import type { Provider, ProviderContext } from "../provider.ts";
import { open } from "./exec.ts";
import { execOptions } from "./options.ts";

const example = fileURLToPath(new URL("../../../examples/exec-provider.pl", import.meta.url));

conformance({
  name: "exec",
  module: new URL("exec.ts", import.meta.url).href,
  options: execOptions.parse({ command: ["perl", example] }),
  lacks: {
    image: "the example's machines have no image",
    escapees: "the example ends a process group, and no process that left it",
  },
});

const hello = {
  protocol: 1,
  capabilities: {
    architectures: ["x64"],
    maximum: { cpu: 4, memoryMb: 8192, diskGb: 100, gpu: 0, architecture: "x64" },
    channel: "url",
    accepts: ["trusted"],
  },
  price: { microUsdPerHour: 1000, microUsdPerCpuHour: 500.5, quantumSeconds: 60 },
};
const size = { cpu: 2, memoryMb: 1024, diskGb: 1, gpu: 0, architecture: "x64" } as const;
const spec = { name: "abc-1", size, image: null, network: true, trust: ["trusted"] } as const;
const program = { files: [], command: ["true"], environment: {}, deadlineSeconds: 60 };
const machine = { name: "abc-1", state: "running", handle: "i-1", createdAt: 5, exitCode: null };

describe("the exec provider", { timeout: 600_000 }, () => {
  let folder: string;
  let now: number;
  let lines: string[];
  const opened: Provider[] = [];

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), "mayfly-exec-"));
    now = 1_000_000;
    lines = [];
  });
  afterEach(async () => {
    for (const provider of opened.splice(0)) await provider.close();
    await rm(folder, { recursive: true });
  });

  function context(): ProviderContext {
    const log = (_fields: object, message: string) => void lines.push(message);
    const folders = { folder, guestFolder: join(folder, "guest"), stateFolder: folder };
    return {
      name: "cloud",
      installation: "abc",
      ...folders,
      now: () => now,
      log: { info: log, warn: log },
    };
  }

  /** Opens the provider upon a program whose answers are `answer(ask)`, JavaScript on one line. */
  async function speaking(answer: string, options: object = {}): Promise<Provider> {
    const script = `
      const say = (id, more) => process.stdout.write(JSON.stringify({ id, ...more }) + "\\n");
      require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
        const { id, method, params } = JSON.parse(line);
        ${answer};
        if (method === "hello") say(id, { result: ${JSON.stringify(hello)} });
      });`;
    await writeFile(join(folder, "program.cjs"), script);
    const command = [process.execPath, join(folder, "program.cjs")];
    const provider = await open(execOptions.parse({ command, ...options }), context());
    opened.push(provider);
    return provider;
  }

  it("takes capabilities and price from the program's hello", async () => {
    const provider = await speaking("");
    assert.deepEqual(provider.lends(), { ...hello.capabilities, labels: [] });
    const price = { microUsdPerHour: 2001, quantumSeconds: 60, minimumSeconds: 0 };
    assert.deepEqual(provider.price(size), price);
  });

  it("takes answers in any order, each for its own request", async () => {
    const provider = await speaking(
      `globalThis.held ??= []; if (method === "create") held.push(id);
       if (held.length === 2) for (const id of held.splice(0).reverse())
         say(id, { result: { ...${JSON.stringify(machine)}, name: "abc-" + id } })`,
    );
    const made = ["abc-2", "abc-3"].map((name) =>
      provider.create({ ...spec, name }, program, never),
    );
    const names = (await Promise.all(made)).map(({ name }) => name);
    assert.deepEqual(names, ["abc-2", "abc-3"]);
  });

  it("passes the program's own failures on, of the closed set only", async () => {
    const provider = await speaking(
      `if (method === "create") say(id, { error: { kind: "quota", message: "full", retryAfterMs: 9 } });
       if (method === "destroy") say(id, { error: { kind: "gone", message: "none" } });
       if (method === "list") say(id, { error: globalThis.again ? 5 : { kind: "on fire", message: "!" } }), globalThis.again = true`,
    );
    const refused = provider.create(spec, program, never);
    await assert.rejects(refused, { kind: "quota", message: "full", retryAfterMs: 9 });
    assert.equal(await provider.destroy("abc-1", never), "gone");
    await assert.rejects(provider.list(never), { kind: "unreachable", message: "!" });
    await assert.rejects(provider.list(never), { kind: "unreachable" });
  });

  it("understands no answer of another shape", async () => {
    const provider = await speaking(`if (method !== "hello") say(id, { result: [5] })`);
    await assert.rejects(provider.list(never), { kind: "unreachable", message: /list/ });
    await assert.rejects(provider.create(spec, program, never), { kind: "unreachable" });
    await assert.rejects(provider.destroy("abc-1", never), { kind: "unreachable" });
    await assert.rejects(provider.check(never), { kind: "unreachable" });
  });

  it("believes no machine of another's name", async () => {
    const other = { ...machine, name: "abcd-1" };
    const provider = await speaking(
      `if (method === "list") say(id, { result: ${JSON.stringify([machine, other])} });
       if (method === "create") say(id, { result: ${JSON.stringify(other)} })`,
    );
    assert.deepEqual(await provider.list(never), [machine]);
    await assert.rejects(provider.create(spec, program, never), { kind: "unreachable" });
  });

  it("gives up an answer that does not come, and tells the program", async () => {
    const told = join(folder, "told");
    const provider = await speaking(
      `if (method === "cancel") require("node:fs").writeFileSync(${JSON.stringify(told)}, "" + params.id)`,
      { requestSeconds: 0.05 },
    );
    await assert.rejects(provider.list(never), { kind: "unreachable", message: /in time/ });
    await until("the cancel", async () => (await readFile(told, "utf8").catch(() => "")) === "2");
  });

  it("fails what is under way when the program dies, and starts it again, later and later", async () => {
    const provider = await speaking(
      `if (method === "list") process.exit(3);
       if (method === "destroy") say(id, { result: "gone" })`,
    );
    await assert.rejects(provider.list(never), { kind: "unreachable", message: /status 3/ });
    const first = await provider.destroy("abc-1", never).catch((error: ProviderError) => error);
    assert.ok(first instanceof ProviderError);
    assert.equal(first.retryAfterMs, 500);
    now += 500;
    await assert.rejects(provider.list(never), { kind: "unreachable", message: /status 3/ });
    const second = await provider.list(never).catch((error: ProviderError) => error);
    assert.equal((second as ProviderError).retryAfterMs, 1_000);
    now += 1_000;
    assert.equal(await provider.destroy("abc-1", never), "gone");
    assert.equal(lines.filter((line) => line.includes("status 3")).length, 2);
  });

  it("ends a program that writes no end of a line", async () => {
    const provider = await speaking(
      `if (method === "list") setInterval(() => process.stdout.write("x".repeat(1 << 20)), 0)`,
    );
    await assert.rejects(provider.list(never), { kind: "unreachable", message: /longer than/ });
  });

  it("logs the program's stderr and what is no answer, a bounded number of lines", async () => {
    const provider = await speaking(
      `if (method === "list") process.stdout.write("what?\\n{}\\n"), say(id, { result: [] });
       if (method === "destroy") {
         for (let n = 0; n < 1000; n++) process.stderr.write("line " + n + "\\n");
         say(id, { result: "gone" });
       }`,
    );
    // Its answer comes after what it wrote before that; nothing tells which of two pipes is read first.
    await provider.list(never);
    await provider.destroy("abc-1", never);
    await until("the log", async () => lines.length >= 200);
    assert.equal(lines.length, 200);
    assert.ok(lines.includes("line 0") && lines.includes('not JSON: "what?"'), lines.join());
  });

  it("refuses a program that speaks another version, or nonsense, or nothing", async () => {
    const old = speaking(
      `if (method === "hello") return say(id, { result: { ...${JSON.stringify(hello)}, protocol: 2 } })`,
    );
    await assert.rejects(old, { kind: "invalid", message: /protocol 2/ });
    const nonsense = speaking(
      `if (method === "hello") return say(id, { result: { protocol: 1 } })`,
    );
    await assert.rejects(nonsense, { kind: "unreachable", message: /capabilities/ });
    await assert.rejects(speaking("process.exit(1)"), { kind: "unreachable", message: /status 1/ });
    const missing = open(execOptions.parse({ command: ["/nonexistent"] }), context());
    const why = "/nonexistent cannot be run: there is no such program";
    await assert.rejects(missing, { kind: "unreachable", message: why });
  });

  it("says what a program that cannot begin said last", async () => {
    const script = 'echo starting >&2; echo "no key here" >&2; exit 3';
    const options = execOptions.parse({ command: ["sh", "-c", script] });
    const message = "sh ended with status 3: no key here";
    await assert.rejects(open(options, context()), { kind: "unreachable", message });
  });

  it("gives the program its variables and secrets, and nothing else of ours", async () => {
    process.env["MAYFLY_TEST_SECRET"] = "ours";
    const secret = new Secret({ kind: "env", name: "TOKEN" }, "s3cret");
    const seen = join(folder, "seen");
    const script = `require("node:fs").writeFileSync(${JSON.stringify(seen)}, JSON.stringify(process.env)); process.exit()`;
    const options = { ...execOptions.parse({ command: [process.execPath, "-e", script] }) };
    const given = { ...options, environment: { A: "b" }, secrets: { TOKEN: secret } };
    await assert.rejects(open(given, context()), { kind: "unreachable" });
    delete process.env["MAYFLY_TEST_SECRET"];
    const { PATH, HOME, LANG, ...rest } = JSON.parse(await readFile(seen, "utf8"));
    assert.deepEqual(
      [PATH, HOME, LANG],
      [process.env["PATH"], process.env["HOME"], process.env["LANG"]],
    );
    assert.deepEqual(rest, { A: "b", TOKEN: "s3cret" });
    assert.ok(!JSON.stringify(given).includes("s3cret"));
  });

  it("survives a program that does not read", async () => {
    const provider = await speaking(`if (method === "list") process.stdin.pause()`);
    const signal = AbortSignal.timeout(200);
    const content = "x".repeat(10 * 2 ** 20);
    const large = { ...program, files: [{ path: "x", mode: 0o644, content }] };
    const calls = [provider.list(signal)].concat(
      Array.from({ length: 8 }, () => provider.create(spec, large, signal).then((one) => [one])),
    );
    const kinds = (await Promise.allSettled(calls)).map((call) =>
      call.status === "rejected" ? (call.reason as ProviderError).kind : "fulfilled",
    );
    assert.deepEqual(new Set(kinds), new Set(["unreachable", "throttled"]));
  });
});
