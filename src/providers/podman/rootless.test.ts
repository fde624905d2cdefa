import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { execFile } from "node:child_process";

const user = process.env["MAYFLY_TEST_USER"];
const asked =
  user === undefined &&
  "name a scratch user in MAYFLY_TEST_USER (useradd --create-home makes one), or run the tests as one";

it(
  "podman passes the same tests as an ordinary user",
  {
    timeout: 900_000,
    skip: process.getuid?.() !== 0 ? "these tests run as a user already" : asked,
  },
  async () => {
    const run = promisify(execFile);
    const runtime = await mkdtemp(join(tmpdir(), "mayfly-runtime-"));
    try {
      await run("chown", [`${user}:`, runtime]);
      const { stdout } = await run("getent", ["passwd", user!]);
      const home = stdout.split(":")[5];
      assert.ok(home, `${user} has a home`);
      const environment = [
        `HOME=${home}`,
        `XDG_RUNTIME_DIR=${runtime}`,
        `PATH=${process.env["PATH"]}`,
      ];
      const test = fileURLToPath(new URL("podman.test.ts", import.meta.url));
      const as = ["--reuid", user!, "--regid", user!, "--init-groups", "--"];
      const command = ["env", "-i", ...environment, process.execPath, "--test", test];
      // Its runner's own report goes where ours goes.
      const child = spawn("setpriv", [...as, ...command], { cwd: "/", stdio: "inherit" });
      const [code] = await once(child, "exit");
      assert.equal(code, 0);
      // A rootless podman leaves one small process, which holds its namespace.
      await run("setpriv", [...as, "env", "-i", ...environment, "podman", "system", "migrate"]);
    } finally {
      await rm(runtime, { recursive: true, force: true });
    }
  },
);
