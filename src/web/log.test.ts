import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { openLog, type LogOptions } from "./log.ts";

function opened(changes: Partial<LogOptions> = {}): {
  log: ReturnType<typeof openLog>;
  lines: string[];
} {
  const lines: string[] = [];
  const log = openLog({
    level: "info",
    format: "json",
    colours: false,
    secrets: [],
    write: (line) => lines.push(line),
    ...changes,
  });
  return { log, lines };
}

test("a decision is one JSON line, with its fields and an ISO time", () => {
  const { log, lines } = opened();
  log.info({ pool: "small", runners: ["m-1"] }, "claimed 1");
  log.warn({ provider: "box" }, "left alone");
  log.debug({}, "not at this level");
  assert.equal(lines.length, 2);
  const first = JSON.parse(lines[0] ?? "") as Record<string, unknown>;
  assert.match(String(first.time), /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.deepEqual(
    { ...first, time: 0 },
    { level: "info", time: 0, pool: "small", runners: ["m-1"], msg: "claimed 1" },
  );
  assert.ok(lines.every((line) => line.endsWith("\n")));
});

test("on a terminal a person reads it, and nothing from outside paints or fakes a line", () => {
  const { log, lines } = opened({ format: "plain" });
  log.info({ pool: "small", reason: "2 jobs waiting" }, "claimed 2");
  log.warn({ runner: "m-1" }, "evil\n00:00:00 fake \x1b[31m");
  assert.match(
    lines[0] ?? "",
    /^\d\d:\d\d:\d\d claimed 2 {2}pool=small reason="2 jobs waiting"\n$/,
  );
  assert.match(
    lines[1] ?? "",
    /^\d\d:\d\d:\d\d warn: evil\\x0a00:00:00 fake \\x1b\[31m {2}runner=m-1\n$/,
  );
  const coloured = opened({ format: "plain", colours: true });
  coloured.log.warn({}, "x");
  // oxlint-disable-next-line no-control-regex -- colours are what is looked for
  assert.match(coloured.lines[0] ?? "", /\x1b\[33mwarn:\x1b\[0m x/);
});

test("secrets are hidden by the field's name, and by their value wherever it stands", () => {
  const pem = 'line one\nline "two"';
  for (const format of ["json", "plain"] as const) {
    const { log, lines } = opened({ format, secrets: ["hunter2hunter2", pem, "x"] });
    log.info(
      {
        token: "abc",
        headers: { authorization: "Bearer abc" },
        url: "https://a:hunter2hunter2@b/",
      },
      "hunter2hunter2",
    );
    log.warn({ error: `bad key ${pem}` }, "exit");
    const text = lines.join("");
    assert.doesNotMatch(text, /hunter2|abc|line one|two/);
    assert.match(text, /\[secret\]/);
    assert.match(text, /exit/, "a secret of one letter blots out nothing");
  }
});

test("a slow reader of the log gets every line; one that is gone stops nobody", () => {
  const code = `
    import { descriptorWriter } from ${JSON.stringify(new URL("./log.ts", import.meta.url).href)};
    const write = descriptorWriter(1);
    for (let index = 0; index < 3000; index++) write("x".repeat(99) + "\\n");
    process.stderr.write("done");
  `;
  const whole = spawnSync(process.execPath, ["--input-type=module-typescript", "-e", code], {
    maxBuffer: 1e7,
  });
  assert.equal(whole.stdout.length, 300_000);
  const shell = spawnSync("sh", [
    "-c",
    '"$0" --input-type=module-typescript -e "$1" | head -c 10 >/dev/null',
    process.execPath,
    code,
  ]);
  assert.match(shell.stderr.toString(), /done$/);
});
