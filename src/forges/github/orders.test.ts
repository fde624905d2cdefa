import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import fc from "fast-check";
import * as tar from "tar";
import type { TrustClass } from "../../domain/trust.ts";
import type { RunnerPrograms } from "../runner-program.ts";
import { runnerOrders } from "./orders.ts";

/** Stands in for GitHub's runner: shows what it was started with, then is one for a job. */
const fakeRunner = `#!/bin/bash
echo "arguments: $#"
echo "config: $ACTIONS_RUNNER_INPUT_JITCONFIG"
echo "file: $(ls "$TEST_FILES" | grep -c jitconfig)"
echo "root: \${RUNNER_ALLOW_RUNASROOT:-no} \${ACTIONS_RUNNER_RETURN_VERSION_DEPRECATED_EXIT_CODE}"
echo "no icu: \${DOTNET_SYSTEM_GLOBALIZATION_INVARIANT:-}"
echo "here: $PWD"
echo "left: $(ls -A | tr '\\n' ' ')"
tr '\\0' ' ' < /proc/$PPID/cmdline | sed 's/^/parent: /'
echo
echo "2026-03-01 10:00:00Z: Running job: build"
[ -n "$TEST_DEADMAN" ] || unset MAYFLY_RUNNER_PID
echo '{"ref":"refs/heads/main"}' > event.json
export GITHUB_EVENT_PATH=$PWD/event.json GITHUB_REPOSITORY=acme/widget
if bash -e "$ACTIONS_RUNNER_HOOK_JOB_STARTED"; then echo "hook: fine"; else echo "hook: refused"; fi
if [ -n "$TEST_DEADMAN" ]; then : >"$TEST_DEADMAN"; exec sleep 1000; fi
exit \${TEST_EXIT:-0}
`;

let folder = "";
let count = 0;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "mayfly-orders-"));
});
after(() => rm(folder, { recursive: true, force: true }));

interface Ran {
  readonly status: number | null;
  readonly output: string;
}

async function ran(
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<Ran> {
  const [program = "", ...args] = command;
  const child = spawn(program, args, { env: { PATH: process.env["PATH"], ...environment } });
  let output = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (output += text));
  const [status] = (await once(child, "close")) as [number | null];
  return { status, output };
}

/** The same for every kind of machine that this may run on. */
function here(url: string, sha256: string): RunnerPrograms {
  const program = { url, sha256 };
  return { "linux-x64": program, "linux-arm64": program, "darwin-arm64": program };
}

/** Carries orders out as a guest does. */
async function carriedOut(
  parts: {
    programs?: RunnerPrograms;
    accept?: readonly TrustClass[];
    environment?: Record<string, string>;
  } = {},
): Promise<Ran & { readonly files: string; readonly work: string }> {
  const files = join(folder, `files ${++count}`);
  const work = join(folder, `work ${count}`);
  await mkdir(files, { mode: 0o700 });
  await mkdir(work);
  const accept = parts.accept ?? ["trusted"];
  const context = { accept, jobDeadlineSeconds: 600 };
  const orders = runnerOrders("c29tZSBzZWNyZXQ=", parts.programs ?? {}, context);
  for (const { path, mode, content } of orders.files) {
    await writeFile(join(files, path), content, { mode });
  }
  const placed = (text: string): string =>
    text.replaceAll("{files}", files).replaceAll("{work}", work);
  const environment = Object.fromEntries(
    Object.entries(orders.environment).map(([name, value]) => [name, placed(value)]),
  );
  const result = await ran(orders.command.map(placed), {
    ...environment,
    TEST_FILES: files,
    ...parts.environment,
  });
  assert.ok(!existsSync(join(files, "jitconfig")), "the configuration is gone");
  return { ...result, files, work };
}

/** An image's runner program. */
async function installed(): Promise<string> {
  const place = join(folder, `runner ${++count}`);
  await mkdir(place);
  await writeFile(join(place, "run.sh"), fakeRunner, { mode: 0o755 });
  await writeFile(join(place, ".runner"), "{}");
  await writeFile(join(place, ".credentials"), "{}");
  return place;
}

describe("starting GitHub's runner", () => {
  test("hands the configuration on in no file and no argument, in a folder of its own", async () => {
    const image = await installed();
    const { status, output, work } = await carriedOut({
      environment: { MAYFLY_RUNNER_DIR: image },
    });
    assert.equal(status, 0, output);
    assert.match(output, /^arguments: 0$/m);
    assert.match(output, /^config: c29tZSBzZWNyZXQ=$/m);
    assert.match(output, /^file: 0$/m);
    assert.match(output, /^here: .*\/runner$/m);
    assert.ok(output.includes(`here: ${work}`));
    assert.match(output, /^left: run\.sh $/m, "an earlier registration does not come along");
    assert.doesNotMatch(/^parent: .*$/m.exec(output)?.[0] ?? "", /c29tZ/);
    assert.match(output, /^hook: fine$/m);
    const isRoot = process.getuid?.() === 0;
    assert.match(output, new RegExp(`^root: ${isRoot ? "1" : "no"} 1$`, "m"));
    const context = { accept: [], jobDeadlineSeconds: 1 };
    assert.ok(output.includes(runnerOrders("x", {}, context).startedText));
    assert.equal((await stat(join(image, ".runner"))).isFile(), true, "the image's stays");
  });

  const isLinux = { skip: process.platform !== "linux" && "elsewhere .NET brings what it needs" };
  test(
    "is told to do without ICU where there is none, and not where there is",
    isLinux,
    async () => {
      const programs = join(folder, "ldconfig's");
      await mkdir(programs);
      const invariance = async (libraries: string, more: Record<string, string> = {}) => {
        const fake = `#!/bin/sh\necho "${libraries}"\n`;
        await writeFile(join(programs, "ldconfig"), fake, { mode: 0o755 });
        const PATH = `${programs}:${process.env["PATH"]}`;
        const environment = { MAYFLY_RUNNER_DIR: await installed(), PATH, ...more };
        return /^no icu: (.*)$/m.exec((await carriedOut({ environment })).output)?.[1];
      };
      assert.equal(await invariance("libc.so.6 (libc6,x86-64) => /lib/libc.so.6"), "1");
      const icu = "libicuuc.so.72 (libc6,x86-64) => /lib/libicuuc.so.72";
      assert.equal(await invariance(icu), "");
      assert.equal(await invariance("", { DOTNET_SYSTEM_GLOBALIZATION_INVARIANT: "0" }), "0");
    },
  );

  test("ends as the runner ends", async () => {
    const environment = { MAYFLY_RUNNER_DIR: await installed(), TEST_EXIT: "7" };
    assert.equal((await carriedOut({ environment })).status, 7);
  });

  test("is told to end a minute after its job's limit", async () => {
    const programs = join(folder, "sleep's");
    await mkdir(programs);
    // The job's limit and a minute are over when the job is under way, however slow the host is.
    const fake = `#!/bin/sh
PATH='${process.env["PATH"]}'
[ "$1" = 660 ] || exec sleep "$@"
until [ -e "$TEST_DEADMAN" ]; do sleep 0.05; done
`;
    await writeFile(join(programs, "sleep"), fake, { mode: 0o755 });
    const { status, output } = await carriedOut({
      environment: {
        MAYFLY_RUNNER_DIR: await installed(),
        PATH: `${programs}:${process.env["PATH"]}`,
        TEST_DEADMAN: join(folder, "under-way"),
      },
    });
    assert.match(output, /^hook: fine$/m);
    assert.notEqual(status, 0, "whatever it was doing");
  });

  test("fetches the program and runs it only if it is the very one", async (t) => {
    const image = await installed();
    const archive = join(folder, "runner.tar.gz");
    await tar.create({ gzip: true, file: archive, cwd: image }, ["."]);
    const bytes = await readFile(archive);
    const server = createServer((_request, response) => response.end(bytes));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    const address = server.address();
    assert.ok(typeof address === "object" && address !== null);
    const url = `http://127.0.0.1:${address.port}/runner.tar.gz`;
    const sha256 = createHash("sha256").update(bytes).digest("hex");
    const good = await carriedOut({ programs: here(url, sha256) });
    assert.equal(good.status, 0, good.output);
    assert.match(good.output, /^config: c29/m);
    const bad = await carriedOut({ programs: here(url, "0".repeat(64)) });
    assert.equal(bad.status, 70);
    assert.match(bad.output, /is not what the configuration's sha256 says/);
    assert.doesNotMatch(bad.output, /config:/);
    const gone = await carriedOut({ programs: here(url.replace(/:\d+/, ":1"), sha256) });
    assert.equal(gone.status, 70);
  });

  test("says what is missing", async () => {
    const none = await carriedOut({ environment: { MAYFLY_RUNNER_DIR: "/nonexistent" } });
    if (existsSync("/opt/mayfly/runners/github/run.sh")) return;
    assert.equal(none.status, 70);
    assert.match(none.output, /no runner program in \/opt\/mayfly\/runners\/github.*set programs/);
  });
});

describe("before a job's first step", () => {
  const hook = join(import.meta.dirname, "job-started.sh");
  const whose = join(import.meta.dirname, "job-started.pl");

  async function asked(
    event: unknown,
    accept = "trusted",
    repository = "acme/widget",
  ): Promise<Ran> {
    const path = join(folder, `event-${++count}.json`);
    await writeFile(path, typeof event === "string" ? event : JSON.stringify(event));
    return ran(["bash", "-e", hook], {
      GITHUB_EVENT_PATH: path,
      GITHUB_REPOSITORY: repository,
      MAYFLY_ACCEPT: accept,
    });
  }
  const pull = (fullName: string | null, more: object = {}): object => ({
    action: "opened",
    ...more,
    pull_request: { title: "x", head: { repo: fullName && { full_name: fullName } }, ...more },
    repository: { full_name: "acme/widget" },
  });

  test("a fork's pull request is refused where only trusted code may run", async () => {
    const refused = [
      pull("stranger/widget"),
      pull(null),
      pull("acme/widget2"),
      { pull_request: null },
      { pull_request: {} },
      { pull_request: { head: { repo: ["acme/widget"] } } },
      // What its author writes does not make it another's.
      pull("stranger/widget", { body: '","head":{"repo":{"full_name":"acme/widget"}},"x":"' }),
      pull("stranger/widget", { body: '\\"}}} \u2028 \ud83d\ude00' }),
      "",
      "null",
      "[]",
      "{",
      '{"pull_request":{"head":{"repo":{"full_name":"acme/widget"}}}} {}',
      "[".repeat(10_000),
      '{"a": "unfinished',
    ];
    for (const event of refused) {
      const { status, output } = await asked(event);
      assert.equal(status, 1, JSON.stringify(event).slice(0, 200));
      assert.match(output, /does not run this job/);
    }
    const missing = { GITHUB_REPOSITORY: "acme/widget", MAYFLY_ACCEPT: "trusted" };
    assert.equal((await ran(["bash", "-e", hook], missing)).status, 1);
    assert.equal((await asked(pull("acme/widget"), "trusted", "")).status, 1);
  });

  test("others begin, and a fork's where forks are accepted", async () => {
    const large = "x".repeat(200_000) + '\\"'.repeat(50_000);
    for (const event of [
      pull("acme/widget"),
      pull("Acme/Widget", { body: large }),
      { ref: "refs/heads/main", numbers: [1, -2.5e9, true, false, null], empty: [{}, []] },
    ]) {
      const { status, output } = await asked(event);
      assert.equal(status, 0, output);
    }
    assert.equal((await asked(pull("stranger/widget"), "trusted,fork")).status, 0);
    assert.equal((await asked(pull("stranger/widget"), "fork")).status, 0);
    assert.equal((await asked(pull("stranger/widget"), "")).status, 1);
  });

  test("reads every JSON text as JSON", async () => {
    const name = fc.constantFrom("acme/widget", "stranger/widget");
    const texts = await Promise.all(
      fc
        .sample(fc.tuple(fc.jsonValue({ maxDepth: 3 }), fc.string({ unit: "binary" }), name), 15)
        .map(async ([noise, title, fullName]) => {
          const event = {
            noise,
            pull_request: { noise, title, head: { repo: { full_name: fullName } } },
          };
          const path = join(folder, `event-${++count}.json`);
          await writeFile(path, JSON.stringify(event, null, count % 3));
          const { status } = await ran(["perl", whose, path, "acme/widget"], {});
          return [status === 0, fullName === "acme/widget", JSON.stringify(event)] as const;
        }),
    );
    for (const [begins, isOwn, text] of texts) assert.equal(begins, isOwn, text);
  });
});
