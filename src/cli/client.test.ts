import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import test, { after, afterEach, before, suite } from "node:test";
import { exit } from "./exit.ts";
import { mayfly, problem, sampleJob, scratchFolder, StubServer } from "./testing.ts";

let stub: StubServer;
before(async () => {
  stub = await StubServer.start();
});
after(() => stub.stop());
afterEach(() => {
  stub.answers.clear();
  stub.asked.length = 0;
});

const ask = (...args: string[]) => mayfly(args, { environment: stub.environment });

suite("asking", () => {
  test("jobs as plain lines in a pipe, and whole as JSON", async () => {
    const jobs = [
      sampleJob({ name: "a name of some length, which no pipe may cut, for a pipe has no width" }),
      sampleJob({ id: "native-b", outcome: "failure", exitCode: 2, name: "evil\u001b[31m\nname" }),
    ];
    stub.answers.set("GET /v1/jobs", { jobs, next: null });
    const plain = await ask("jobs");
    assert.equal(plain.code, 0);
    assert.equal(plain.stderr, "");
    const lines = plain.stdout.trimEnd().split("\n");
    assert.equal(lines.length, 3);
    assert.match(lines[0] ?? "", /^JOB +STATE +NAME/);
    assert.match(lines[1] ?? "", /^native-k3f9abcdef +succeeded +a name of .* no width +rocket/);
    assert.match(lines[2] ?? "", /^native-b +failed \(2\) +evil\ufffd\[31m name/);
    assert.ok(!plain.stdout.includes("\u001b"));

    const json = await ask("jobs", "--json", "--waiting", "--pool", "small", "--limit", "5");
    assert.deepEqual(JSON.parse(json.stdout), { jobs, next: null });
    const { searchParams } = stub.asked.at(-1)?.url ?? new URL("http://none");
    assert.deepEqual(Object.fromEntries(searchParams), {
      limit: "5",
      state: "waiting",
      pool: "small",
    });
  });

  test("an empty list says what to do, on standard error", async () => {
    stub.answers.set("GET /v1/jobs", { jobs: [], next: null });
    const { code, stdout, stderr } = await ask("jobs");
    assert.deepEqual([code, stdout], [0, ""]);
    assert.match(stderr, /Submit one: mayfly submit/);
  });

  test("an empty list of some says of which", async () => {
    stub.answers.set("GET /v1/jobs", { jobs: [], next: null });
    assert.equal((await ask("jobs", "--pool", "big")).stderr, "No jobs like that in pool big.\n");
    assert.equal((await ask("jobs", "--started")).stderr, "No jobs run now.\n");
  });

  test("a job that no pool may take is told as such, and not to be followed", async () => {
    const reason = "pool small: 99 cpu asked, 2 at most";
    stub.answers.set("POST /v1/jobs", sampleJob({ outcome: "refused", exitCode: null, reason }));
    const { code, stdout, stderr } = await ask("submit", "--no-repo", "--", "true");
    assert.deepEqual([code, stdout], [exit.forbidden, "native-k3f9abcdef\n"]);
    assert.match(stderr, /^mayfly: no pool may take it: pool small: 99 cpu asked, 2 at most$/m);
    assert.doesNotMatch(stderr, /follow/);
  });

  test("a shortened id is found; one that means nothing or several is told", async () => {
    const jobs = [sampleJob(), sampleJob({ id: "native-k3zz" })];
    stub.answers.set("GET /v1/jobs", { jobs, next: null });
    stub.answers.set("GET /v1/jobs/native-k3f9abcdef/artifacts", { artifacts: [] });
    assert.match(
      (await ask("artifacts", "k3f")).stderr,
      /native-k3f9abcdef has brought back nothing/,
    );
    const several = await ask("artifacts", "native-k3");
    assert.equal(several.code, exit.usage);
    assert.match(several.stderr, /"native-k3" may mean native-k3f9abcdef and native-k3zz/);
    const none = await ask("artifacts", "nope");
    assert.equal(none.code, exit.notFound);
    assert.match(none.stderr, /there is no job "nope"/);
  });

  test("why, in words, what to do, and what led there", async () => {
    const because = [{ at: 1_767_225_600_000, text: "seen: pool default takes it" }];
    const why = {
      id: "native-a",
      kind: "job",
      state: "waiting",
      summary: "Pool default holds it: 2 machines of 2 are busy.",
      because,
      advice: "It starts when a machine is free.",
    };
    stub.answers.set("GET /v1/why/native-a", why);
    const { stdout } = await ask("why", "native-a");
    assert.match(stdout, /^native-a: Pool default holds it: 2 machines of 2 are busy\.$/m);
    assert.match(stdout, /→ It starts when a machine is free\./);
    assert.match(stdout, /20\d\d-\d\d-\d\d \d\d:\d\d:\d\d {2}seen: pool default takes it/);
    assert.deepEqual(JSON.parse((await ask("why", "native-a", "--json")).stdout), why);
  });
});

suite("what goes wrong", () => {
  test("no server", async () => {
    const { code, stderr } = await mayfly(["jobs"], {
      environment: { MAYFLY_SERVER: "http://127.0.0.1:9" },
    });
    assert.equal(code, exit.unreachable);
    assert.match(stderr, /^mayfly: /);
    assert.doesNotMatch(stderr, /at .*\.ts:\d+/, "no stack trace");
  });

  test("a server that is none of ours", async () => {
    const other = createServer((_, response) => response.end("<h1>It works!</h1>"));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = other.address() as AddressInfo;
      const { code, stderr } = await mayfly(["jobs", "--server", `127.0.0.1:${port}`]);
      assert.equal(code, exit.unreachable);
      assert.match(stderr, /what answers at http:\/\/127\.0\.0\.1:\d+ is not Mayfly/);
    } finally {
      other.closeAllConnections();
      other.close();
    }
  });

  test("a wrong token says where it came from", async () => {
    stub.answers.set("POST /v1/jobs", (response) =>
      problem(response, 401, "unauthenticated", "the token is missing or wrong"),
    );
    const { code, stderr } = await ask("submit", "--no-repo", "--", "true");
    assert.equal(code, exit.forbidden);
    assert.match(stderr, /the token is missing or wrong/);
    assert.match(stderr, /→ The token of MAYFLY_TOKEN is not this server's/);
    assert.equal(stub.asked.at(-1)?.headers.authorization, "Bearer test-token");
  });

  test("a token in the state folder is shown to this machine only", async (t) => {
    const folder = await scratchFolder(t);
    await writeFile(join(folder, "token"), "from-file\n");
    stub.answers.set("GET /v1/jobs", { jobs: [], next: null });
    await mayfly(["jobs", "--server", stub.url, "--state", folder]);
    assert.equal(stub.asked.at(-1)?.headers.authorization, "Bearer from-file");
    // A name that is not a loopback name, though it leads here.
    const afar = stub.url.replace("127.0.0.1", "0.0.0.0");
    await mayfly(["jobs", "--server", afar, "--state", folder]);
    assert.equal(stub.asked.length, 2);
    assert.equal(stub.asked.at(-1)?.headers.authorization, undefined);
  });

  test("a redirect is not followed with the token", async () => {
    stub.answers.set("GET /v1/jobs", (response) =>
      response.writeHead(302, { location: "/elsewhere" }).end(),
    );
    assert.equal((await ask("jobs")).code, exit.unreachable);
    assert.equal(stub.asked.length, 1);
  });

  test("a refusal of the server with its place and advice, and as JSON", async () => {
    stub.answers.set("POST /v1/jobs", (response) =>
      problem(response, 400, "invalid", "nothing is called big", {
        where: "pool",
        hint: "The pools: default.",
      }),
    );
    const plain = await ask("submit", "--no-repo", "--pool", "big", "--", "true");
    assert.equal(plain.code, exit.usage);
    assert.equal(
      plain.stderr,
      "mayfly: pool: nothing is called big\n      → The pools: default.\n",
    );
    const json = await ask("submit", "--no-repo", "--json", "--pool", "big", "--", "true");
    assert.deepEqual(JSON.parse(json.stderr), {
      error: {
        code: "invalid",
        detail: "nothing is called big",
        where: "pool",
        hint: "The pools: default.",
      },
    });
  });

  test("words it does not know", async () => {
    for (const args of [["jbos"], ["jobs", "--foo"], ["logs"], ["why", "a", "b"], []]) {
      assert.equal((await mayfly(args)).code, exit.usage, args.join(" "));
    }
    assert.match(
      (await mayfly(["jbos"])).stderr,
      /unknown command 'jbos'\n\(Did you mean jobs\?\)/,
    );
  });
});

suite("artifacts", () => {
  const id = "native-k3f9abcdef";
  const content = Buffer.from("<testsuite/>");
  const sha256 = "9e7a8d7bd4e7bd5c3e9c6a1bd6b4f2b76d3b5c6c8f0c5d4c7d8c4c5b8d0d0d0d";

  test("are listed, fetched whole into a folder, and checked", async (t) => {
    const folder = await scratchFolder(t);
    const { createHash } = await import("node:crypto");
    const digest = createHash("sha256").update(content).digest("hex");
    const artifact = { path: "out/a b.xml", size: content.length, sha256: digest, at: 1 };
    stub.answers.set(`GET /v1/jobs/${id}`, sampleJob());
    stub.answers.set(`GET /v1/jobs/${id}/artifacts`, { artifacts: [artifact] });
    stub.answers.set(`GET /v1/jobs/${id}/artifacts/out/a%20b.xml`, (response) =>
      response.end(content),
    );
    assert.match((await ask("artifacts", id)).stdout, /12 B +[0-9a-f]{12} +out\/a b\.xml/);
    const fetched = await ask("artifacts", id, "--to", join(folder, "here"));
    assert.equal(fetched.code, 0);
    assert.equal(fetched.stdout, `${join(folder, "here", "out", "a b.xml")}\n`);
    const { readdir, readFile } = await import("node:fs/promises");
    assert.deepEqual(await readFile(join(folder, "here", "out", "a b.xml")), content);

    stub.answers.set(`GET /v1/jobs/${id}/artifacts`, { artifacts: [{ ...artifact, sha256 }] });
    const broken = await ask("artifacts", id, "--to", join(folder, "there"));
    assert.equal(broken.code, exit.unreachable);
    assert.match(broken.stderr, /out\/a b\.xml came broken/);
    assert.deepEqual(await readdir(join(folder, "there", "out")), [], "nothing half is left");
  });

  test("are never written outside of the folder", async (t) => {
    const folder = await scratchFolder(t);
    await mkdir(join(folder, "here"));
    for (const path of ["../evil", "/tmp/mayfly-evil", "a/../../evil", ".."]) {
      stub.answers.set(`GET /v1/jobs/${id}`, sampleJob());
      stub.answers.set(`GET /v1/jobs/${id}/artifacts`, {
        artifacts: [{ path, size: 1, sha256, at: 1 }],
      });
      const { code, stderr } = await ask("artifacts", id, "--to", join(folder, "here"));
      assert.equal(code, exit.usage, path);
      assert.match(stderr, /would be written elsewhere/);
    }
  });
});
