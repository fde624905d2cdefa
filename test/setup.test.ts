import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";

const root = join(import.meta.dirname, "..");

/** All that the set-up and our npm may call; a test adds flock or not, and a node. */
const tools = "sh cat chmod cmp cp dirname find mkdir mv ps readlink rm sleep".split(" ");

/** Stands in for npm: counts its calls, and brings a node that prints what it was given. */
const npm = `#!/bin/sh
echo "$*" >>npm-calls
[ ! -e npm-waits ] || {
  : >npm-started
  until [ -e npm-may-go-on ] || [ $((tries += 1)) -gt 2400 ]; do sleep 0.05; done
}
[ ! -e npm-fails ] || { echo "npm error: no such host" >&2; exit 7; }
rm -rf node_modules
mkdir -p node_modules/.bin
printf '#!/bin/sh\\n[ "$1" = -v ] && echo v24.1.0 && exit\\nprintf "%%s\\\\n" "$PWD" "$@"\\n' >node_modules/.bin/node
chmod +x node_modules/.bin/node
`;

let scratch = "";
let checkout = "";
let bin = "";

beforeEach(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), "mayfly-setup-")));
  checkout = join(scratch, "a check out");
  bin = join(scratch, "bin");
  for (const folder of ["scripts", "src/cli"]) {
    mkdirSync(join(checkout, folder), { recursive: true });
  }
  mkdirSync(bin);
  for (const file of ["mayfly", "scripts/setup.sh", "scripts/run.sh"]) {
    copyFileSync(join(root, file), join(checkout, file));
  }
  writeFileSync(join(checkout, "package-lock.json"), "{}\n");
  writeFileSync(join(checkout, "src/cli/main.ts"), "");
  for (const tool of tools) link(tool);
  program("npm", npm);
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

function link(tool: string): void {
  const found = (process.env["PATH"] ?? "")
    .split(delimiter)
    .map((folder) => join(folder, tool))
    .find((path) => existsSync(path));
  assert.ok(found !== undefined, `${tool} is on the PATH`);
  symlinkSync(found, join(bin, tool));
}

function program(name: string, text: string): void {
  writeFileSync(join(bin, name), text, { mode: 0o755 });
}

function run(file: string, args: readonly string[] = [], cwd = checkout) {
  return spawnSync("sh", [join(checkout, file), ...args], {
    cwd,
    env: { PATH: bin },
    encoding: "utf8",
    timeout: 60_000,
  });
}

function start(file: string): ChildProcess {
  const options = { cwd: checkout, env: { PATH: bin }, stdio: "ignore", detached: true } as const;
  return spawn("sh", [join(checkout, file)], options);
}

function npmCalls(): string[] {
  const path = join(checkout, "npm-calls");
  return existsSync(path) ? readFileSync(path, "utf8").trimEnd().split("\n") : [];
}

function touch(name: string): void {
  writeFileSync(join(checkout, name), "");
}

async function appears(name: string): Promise<void> {
  const deadlineAt = performance.now() + 100_000;
  while (!existsSync(join(checkout, name))) {
    assert.ok(performance.now() < deadlineAt, `${name} appears`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe("set-up", () => {
  test("installs by the lockfile, and again only when that changed", () => {
    const first = run("scripts/setup.sh");
    assert.equal(first.status, 0, first.stderr);
    assert.equal(first.stderr, "mayfly: installing the npm packages of package-lock.json\n");
    assert.match(npmCalls()[0] ?? "", /^ci --ignore-scripts/);

    const second = run("scripts/setup.sh");
    assert.deepEqual([second.status, second.stdout, second.stderr], [0, "", ""]);
    assert.equal(npmCalls().length, 1);

    appendFileSync(join(checkout, "package-lock.json"), "\n");
    assert.equal(run("scripts/setup.sh").status, 0);
    assert.equal(npmCalls().length, 2);
  });

  test("says what to do when npm fails, and tries again the next time", () => {
    touch("npm-fails");
    const failed = run("scripts/setup.sh");
    assert.equal(failed.status, 1);
    assert.match(
      failed.stderr,
      /no such host\nmayfly: npm could not install .* run the same again/,
    );
    rmSync(join(checkout, "npm-fails"));
    assert.equal(run("scripts/setup.sh").status, 0);
    assert.equal(npmCalls().length, 2);
  });

  test("installs again after an install that was killed halfway", async () => {
    assert.equal(run("scripts/setup.sh").status, 0);
    appendFileSync(join(checkout, "package-lock.json"), "\n");
    touch("npm-waits");
    const killed = start("scripts/setup.sh");
    await appears("npm-started");
    process.kill(-killed.pid!, "SIGKILL");
    await once(killed, "exit");
    touch("npm-may-go-on");
    assert.equal(run("scripts/setup.sh").status, 0);
    assert.equal(npmCalls().length, 3);
  });

  for (const lock of ["flock", "mkdir"]) {
    test(`lets one install at a time, by ${lock}`, async () => {
      if (lock === "flock") link("flock");
      touch("npm-waits");
      const both = [start("scripts/setup.sh"), start("scripts/setup.sh")];
      const ends = both.map((child) => once(child, "exit"));
      await appears("npm-started");
      touch("npm-may-go-on");
      assert.deepEqual(await Promise.all(ends), [
        [0, null],
        [0, null],
      ]);
      assert.equal(npmCalls().length, 1);
    });
  }

  test("takes over from a set-up that died, without flock", async () => {
    const dead = spawn("true");
    await once(dead, "exit");
    mkdirSync(join(checkout, ".setup/owner"), { recursive: true });
    writeFileSync(join(checkout, ".setup/owner/pid"), `${dead.pid}\n`);
    assert.equal(run("scripts/setup.sh").status, 0);
    assert.equal(existsSync(join(checkout, ".setup/owner")), false);
  });

  test("names what is missing when there is no npm", () => {
    rmSync(join(bin, "npm"));
    const { status, stderr } = run("scripts/setup.sh");
    assert.equal(status, 1);
    assert.match(stderr, /^mayfly: npm is missing\. Install .*\n$/);
  });

  test("uses the PATH's Node where none came along, if it is new enough", () => {
    program("npm", "#!/bin/sh\nmkdir -p node_modules\n");
    program("node", '#!/bin/sh\n[ "$1" = -v ] && echo v26.0.0 && exit\necho "of the PATH"\n');
    assert.equal(run("mayfly").stdout, "of the PATH\n");

    program("node", "#!/bin/sh\necho v20.20.2\n");
    const { status, stderr } = run("mayfly");
    assert.equal(status, 1);
    assert.match(stderr, /^mayfly: needs Node\.js 24 or newer, and this is v20\.20\.2\. .*\n$/);

    rmSync(join(bin, "node"));
    assert.match(run("mayfly").stderr, /^mayfly: needs Node\.js 24 or newer\. .*\n$/);
  });

  test("passes over a Node that came along but cannot start here", () => {
    program("npm", npm.replace("echo v24.1.0 && exit", "exit 127"));
    program("node", '#!/bin/sh\n[ "$1" = -v ] && echo v24.2.0 && exit\necho "of the PATH"\n');
    assert.equal(run("mayfly").stdout, "of the PATH\n");
  });
});

describe("./mayfly", () => {
  test("keeps the caller's folder and arguments, by symbolic links too", () => {
    const elsewhere = join(scratch, "else where");
    mkdirSync(elsewhere);
    symlinkSync(join(checkout, "mayfly"), join(scratch, "absolute"));
    symlinkSync("../absolute", join(elsewhere, "relative"));
    const args = ["submit", "--", "a b", "", "*"];
    const { stdout, stderr } = spawnSync("sh", ["relative", ...args], {
      cwd: elsewhere,
      env: { PATH: bin },
      encoding: "utf8",
    });
    const entry = join(checkout, "src/cli/main.ts");
    assert.equal(stdout, [elsewhere, entry, ...args, ""].join("\n"), stderr);
  });

  test("runs the bundle as long as nothing it was made of is newer", () => {
    const entry = (): string | undefined => run("mayfly").stdout.split("\n")[1];
    const past = new Date(Date.now() - 60_000);
    for (const path of ["src", "src/cli", "src/cli/main.ts", "package-lock.json"]) {
      utimesSync(join(checkout, path), past, past);
    }
    assert.equal(entry(), join(checkout, "src/cli/main.ts"));
    mkdirSync(join(checkout, "dist"));
    touch("dist/mayfly.js");
    assert.equal(entry(), join(checkout, "dist/mayfly.js"));
    const future = new Date(Date.now() + 60_000);
    utimesSync(join(checkout, "src/cli/main.ts"), future, future);
    assert.equal(entry(), join(checkout, "src/cli/main.ts"));
  });

  test("npm scripts run at the root, whatever folder they are called from", () => {
    const { stdout } = run("scripts/run.sh", ["bench/main.ts", "a b"], scratch);
    assert.equal(stdout, [checkout, "bench/main.ts", "a b", ""].join("\n"));
  });
});
