import assert from "node:assert/strict";
import { existsSync, globSync, statSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { after, before, describe, test } from "node:test";
import { program } from "../src/cli/program.ts";
import { parseConfig } from "../src/config/load.ts";
import { jsonSchema } from "../src/config/reference.ts";
import type { Broker } from "../src/broker/broker.ts";
import { silentLog } from "../src/fleet/log.ts";
import { forges } from "../src/forges/registry.ts";
import { open } from "../src/providers/exec/exec.ts";
import { execOptions } from "../src/providers/exec/options.ts";
import { providers } from "../src/providers/registry.ts";
import { createApp } from "../src/web/app.ts";
import { Metrics } from "../src/web/metrics.ts";
import { defaultLimits, type Web } from "../src/web/web.ts";
import { OpenApi } from "./openapi.ts";
import { startWeb } from "./web.ts";

/* The manual is held against the code: what it names is there, and what is there is named. */

const root = resolve(import.meta.dirname, "..");
const kinds = { forges, providers };
const pages = new Map<string, string>();
let scratch = "";

before(async () => {
  scratch = await mkdtemp(join(tmpdir(), "mayfly-docs-"));
  for (const path of globSync(["*.md", "docs/**/*.md", "src/**/README.md"], { cwd: root })) {
    pages.set(path, await readFile(join(root, path), "utf8"));
  }
});
after(() => rm(scratch, { recursive: true, force: true }));

/** The text of a page; the test fails when there is none. */
function page(path: string): string {
  const text = pages.get(path);
  assert.ok(text !== undefined, `${path} is missing`);
  return text;
}

/** The fenced blocks of a language. */
function blocks(text: string, language: string): string[] {
  const fence = new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\`$`, "gm");
  return [...text.matchAll(fence)].map(([, block = ""]) => block);
}

describe("links", () => {
  /** The names that headings have on a page, as GitHub makes them. */
  function anchors(text: string): Set<string> {
    const headings = text.replace(/^```[^]*?^```$/gm, "").matchAll(/^#+ +(.+)$/gm);
    return new Set(
      [...headings].map(([, heading = ""]) =>
        heading
          .toLowerCase()
          .replace(/[^\p{L}\p{N} _-]/gu, "")
          .replaceAll(" ", "-"),
      ),
    );
  }

  test("lead to a file or a heading that is there", () => {
    const broken: string[] = [];
    for (const [path, text] of pages) {
      const prose = text.replace(/^```[^]*?^```$/gm, "").replace(/`[^`\n]*`/g, "");
      for (const [, target = ""] of prose.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        const [file = "", anchor] = target.split("#");
        const there = file === "" ? path : relative(root, resolve(root, dirname(path), file));
        const isFolder = existsSync(join(root, there)) && statSync(join(root, there)).isDirectory();
        const isGood =
          !there.startsWith("..") &&
          existsSync(join(root, there)) &&
          isFolder === (file.endsWith("/") && file !== "") &&
          (anchor === undefined || anchors(page(there)).has(anchor));
        if (!isGood) broken.push(`${path}: ${target}`);
      }
    }
    assert.deepEqual(broken, []);
  });

  test("find every page of the manual", () => {
    const manual = [...pages].filter(([path]) => /^(README\.md|docs\/)/.test(path));
    const linked = manual.map(([path, text]) =>
      [...text.matchAll(/\]\(([^)\s#]+)/g)].map(([, target = ""]) =>
        relative(root, resolve(root, dirname(path), target)),
      ),
    );
    // Who opens the folder of the manual sees its first page.
    const found = new Set(linked.flat().map((path) => (path === "docs" ? "docs/README.md" : path)));
    const hidden = [...pages.keys()].filter((path) => path.startsWith("docs/") && !found.has(path));
    assert.deepEqual(hidden, []);
  });
});

describe("configuration", () => {
  const keys = Object.keys(jsonSchema(kinds).properties ?? {});

  test("every example passes", async () => {
    let count = 0;
    for (const [path, text] of pages) {
      for (const block of blocks(text, "ya?ml")) {
        const [, first = ""] = /^([a-z]\w*):/im.exec(block) ?? [];
        if (!keys.includes(first)) continue;
        count += 1;
        for (const [, secret = ""] of block.matchAll(/\bfile:([\w.-]+)/g)) {
          await writeFile(join(scratch, secret), "a-secret-of-some-length\n", { mode: 0o600 });
        }
        await parseConfig(block, join(scratch, "mayfly.yaml"), {
          kinds,
          machine: { cpu: 8, memoryMb: 16_384, diskGb: 100, gpu: 0, architecture: "x64" },
          stateFolder: join(scratch, "state"),
          environment: {},
          detect: async () => ({ kind: "podman", warning: null }),
        }).catch((error: unknown) => assert.fail(`${path}: ${String(error)}\n${block}`));
      }
    }
    assert.ok(count >= 6, `${count} examples`);
  });

  for (const role of ["providers", "forges"] as const) {
    for (const [kind, { options }] of Object.entries(kinds[role])) {
      test(`every option of ${kind} is on its page`, () => {
        const text = page(`docs/${role}/${kind}.md`);
        const shape = (options as { shape?: Record<string, unknown> }).shape ?? {};
        for (const key of Object.keys(shape)) {
          assert.match(text, new RegExp(`\\b${key}\\b`), `${kind}.${key}`);
        }
      });
    }
  }
});

test("every command that the manual shows is one, with options that it has", () => {
  const tree = program(
    () => "",
    () => {},
  );
  const wrong: string[] = [];
  for (const [path, text] of pages) {
    if (path === "CHANGELOG.md") continue;
    const spans = [...text.matchAll(/`(?:\.\/)?mayfly ([^`\n]+)`/g)].map(
      ([, words]) => words ?? "",
    );
    const lines = [...text.matchAll(/^(?: {4}|\$ )(?:\.\/)?mayfly ([a-z][^#\n]+)/gm)].map(
      ([, words]) => words ?? "",
    );
    for (const words of [...spans, ...lines]) {
      const [name = "", inner = "", ...rest] = words.trim().split(/\s+/);
      if (name.startsWith("-") || name !== name.toLowerCase()) continue;
      const command = tree.commands.find((one) => one.name() === name);
      const sub = command?.commands.find((one) => one.name() === inner);
      const known = new Set((sub ?? command)?.options.flatMap(({ long, short }) => [long, short]));
      const given = [inner, ...rest.slice(0, rest.includes("--") ? rest.indexOf("--") : undefined)];
      const unknown = given.filter((word) => /^--?[a-z]/.test(word) && word !== "--help");
      const isGood = command !== undefined && (command.commands.length === 0 || sub !== undefined);
      if (!isGood || unknown.some((word) => !known.has(word.split("=")[0]))) {
        wrong.push(`${path}: mayfly ${words}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test("every metric is in the manual, and no other", async () => {
  const metrics = new Metrics({ now: () => 0, version: "0" });
  const lent = { open: 0, todayMicroUsd: 0, microUsdPerDay: 0, state: "well" };
  metrics.addBroker({ stats: () => Promise.resolve(lent) } as unknown as Broker);
  const web = await startWeb({ metrics });
  try {
    const shown = await (await fetch(`${web.url}/metrics`)).text();
    const names = [...shown.matchAll(/^# TYPE (mayfly_\w+) /gm)].map(([, name = ""]) => name);
    const told = page("docs/metrics.md").matchAll(/`(mayfly_\w+)`/g);
    const toldNames = [...new Set([...told].map(([, name = ""]) => name))];
    assert.deepEqual(toldNames.sort(), names.sort());
  } finally {
    await web.close();
  }
});

describe("routes", () => {
  const marks = /(?<=<!-- routes -->\n)[^]*(?=<!-- \/routes -->)/;

  test("of the API are told as its description tells them", async () => {
    const web = await startWeb();
    const answer = await fetch(`${web.url}/v1/openapi.json`);
    const description = new OpenApi(await answer.json());
    await web.close();
    const rows = description
      .operations()
      .map(({ method, path, operation }) => `| \`${method} ${path}\` | ${operation.summary} |`);
    const table = ["", "| | |", "| --- | --- |", ...rows, "", ""].join("\n");
    const file = "docs/api.md";
    if (process.env["UPDATE_DOCS"] === "1") {
      const text = page(file).replace(marks, () => table);
      return writeFile(join(root, file), text);
    }
    const plain = (text: string): string => text.replace(/ +/g, " ").replace(/-{3,}/g, "---");
    const howToMend = "run this test with UPDATE_DOCS=1, then prettier, to mend it";
    assert.equal(plain(marks.exec(page(file))?.[0] ?? ""), table, howToMend);
  });

  test("of guests and of the dashboard are told, too", () => {
    const nothing = { fleet: { guests: {}, store: { db: {} } }, log: silentLog, version: "0" };
    const draining = new AbortController().signal;
    const web = { ...nothing, limits: defaultLimits, draining } as unknown as Web;
    const told = marks.exec(page("docs/api.md"))?.[0] ?? "";
    const missing = createApp(web)
      .routes.filter(({ method, path }) => method !== "ALL" && path !== "/*")
      .map(({ method, path }) => [method, path.replace(/:(\w+)(\{[^}]*\})?/g, "{$1}")] as const)
      .filter(([method, path]) => {
        if (told.includes(`\`${method} ${path}\``)) return false;
        const [, guest] = /^\/v1\/guest\/(.+)/.exec(path) ?? [];
        if (guest !== undefined) {
          return !new RegExp(`\`${method} ${guest}[?\`]`).test(page("docs/guest.md"));
        }
        if (path.startsWith("/v1/")) return !page("docs/api.md").includes(`\`${path}\``);
        return !page("docs/dashboard.md").includes(`\`${path}\``);
      });
    assert.deepEqual(missing, []);
  });
});

describe("the page of exec", () => {
  const marks = /(?<=<!-- example -->\n)[^]*(?=<!-- \/example -->)/;
  const file = "docs/providers/exec.md";

  test("shows the example that is tested", async () => {
    const example = await readFile(join(root, "examples", "exec-provider.pl"), "utf8");
    const shown = `\n\`\`\`perl\n${example}\`\`\`\n\n`;
    const text = page(file);
    if (process.env["UPDATE_DOCS"] === "1") {
      await writeFile(
        join(root, file),
        text.replace(marks, () => shown),
      );
    } else {
      assert.equal(marks.exec(text)?.[0], shown, "run this test with UPDATE_DOCS=1 to mend it");
    }
    assert.ok(example.trimEnd().split("\n").length <= 30);
  });

  test("shows messages as they are", async () => {
    const of = (kind: string) =>
      [...page(file).matchAll(new RegExp(`<!-- ${kind} -->\n+\`\`\`json\n([^]*?)\`\`\``, "g"))].map(
        ([, json = ""]) => JSON.parse(json),
      );
    const [asked, answers] = [of("message"), of("answer")];
    const said = join(scratch, "said");
    // A program that knows nothing but what the page says of answers.
    const script = `
      const { appendFileSync } = require("node:fs");
      const answers = ${JSON.stringify(Object.fromEntries(answers.filter(({ result }) => result).map(({ id, result }) => [id, result])))};
      require("node:readline").createInterface({ input: process.stdin }).on("line", (line) => {
        appendFileSync(${JSON.stringify(said)}, line + "\\n");
        const { id } = JSON.parse(line);
        if (id !== undefined) process.stdout.write(JSON.stringify({ id, result: answers[id] }) + "\\n");
      });`;
    const [hello, create, , destroy] = asked;
    const folders = { folder: scratch, guestFolder: scratch, stateFolder: scratch };
    const { name, installation } = hello.params;
    const now = (): number => 0;
    const provider = await open(execOptions.parse({ command: [process.execPath, "-e", script] }), {
      name,
      installation,
      ...folders,
      now,
      log: silentLog,
    });
    const { signal } = new AbortController();
    try {
      const results = [
        { protocol: 1, capabilities: provider.lends() },
        await provider.create(create.params.spec, create.params.program, signal),
        await provider.list(signal),
        await provider.destroy(destroy.params.name, signal),
        (await provider.check(signal)).slice(1),
      ];
      const { price, ...told } = answers[0].result;
      assert.deepEqual(results, [told, ...answers.slice(1, 5).map(({ result }) => result)]);
      const { size } = create.params.spec;
      assert.equal(
        provider.price(size).microUsdPerHour,
        price.microUsdPerHour + price.microUsdPerCpuHour + price.microUsdPerMemoryGbHour,
      );
    } finally {
      await provider.close();
    }
    const lines = (await readFile(said, "utf8")).trim().split("\n");
    const params = { ...hello.params, folder: scratch, guestFolder: scratch };
    const expected = [{ ...hello, params }, ...asked.slice(1, 5)];
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)),
      expected,
    );
    assert.deepEqual(asked[5], { method: "cancel", params: { id: 2 } });
  });
});
