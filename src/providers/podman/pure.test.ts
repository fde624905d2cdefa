import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import fc from "fast-check";
import type { ProviderContext } from "../provider.ts";
import { plainVariables, rootUid, runArguments, wallArguments } from "./arguments.ts";
import { containersConf } from "./engine.ts";
import { refuseMounts } from "./mounts.ts";
import { podmanOptions } from "./options.ts";
import { failureOf, isNameInUse } from "./outcome.ts";
import type { Powers } from "./powers.ts";

const powers: Powers = {
  rootless: false,
  runtime: "runc",
  cgroupManager: "cgroupfs",
  userNamespace: true,
  limits: true,
  quota: false,
  driver: "overlay",
  graphRoot: "/var/lib/containers/storage",
  nofile: 1_048_576,
  nproc: 16_384,
};
const context: ProviderContext = {
  name: "small",
  installation: "abc",
  folder: "/state/providers/small",
  guestFolder: "/state/guest",
  stateFolder: "/state",
  now: () => 0,
  log: { info: () => {}, warn: () => {} },
};
const size = { cpu: 2, memoryMb: 4096, diskGb: 20, gpu: 0, architecture: "x64" } as const;

function argumentsFor(environment: Record<string, string>, network = false): string[] {
  const spec = { name: "abc-1", size, image: null, network, trust: ["fork"] } as const;
  const program = { files: [], command: ["sh"], environment, deadlineSeconds: 90.5 };
  const placed = { command: ["sh", "-c", "--help"] as [string, ...string[]], environment };
  const run = { spec, program, placed, image: "i:1", folder: "/state/m/abc-1", createdAt: 5 };
  return runArguments(run, podmanOptions.parse({}), powers, context);
}

describe("podman's arguments", () => {
  it("name the machine, its limits and its deadline, and end with the command as given", () => {
    const args = argumentsFor({});
    for (const wanted of [
      "--name=abc-1",
      "--cpus=2",
      "--memory=4096m",
      "--memory-swap=4096m",
      "--pids-limit=2048",
      "--network=none",
      "--timeout=91",
      "--cap-drop=all",
      "--security-opt=no-new-privileges",
      "--label=mayfly.installation=abc",
      "--label=mayfly.provider=small",
      "--volume=/state/m/abc-1/program:/run/mayfly/program:ro",
      "--volume=/state/guest:/run/mayfly/guest:ro",
    ]) {
      assert.ok(args.includes(wanted), wanted);
    }
    assert.deepEqual(args.slice(-4), ["i:1", "sh", "-c", "--help"]);
    assert.ok(argumentsFor({}, true).includes("--network=private"));
  });

  it("lend nothing of the host for writing", () => {
    const volumes = argumentsFor({}).filter((arg) => arg.startsWith("--volume="));
    assert.deepEqual(
      volumes.filter((volume) => !volume.endsWith(":ro")),
      [],
    );
    assert.ok(!argumentsFor({}).some((arg) => /privileged|--device|--pid=|--ipc=/.test(arg)));
  });

  it("hand a variable over either by the file or by an argument, whole", () => {
    const value = fc.oneof(fc.string(), fc.base64String(), fc.constant("https://a.b/c?d=e%20"));
    fc.assert(
      fc.property(value, (text) => {
        const file = plainVariables({ command: ["sh"], environment: { TOKEN: text } });
        const args = argumentsFor({ TOKEN: text }).filter((arg) => arg.startsWith("--env="));
        if (file === "") assert.deepEqual(args, [`--env=TOKEN=${text}`]);
        else assert.deepEqual([file, args], [`TOKEN=${text}\n`, []]);
      }),
    );
  });

  it("keep a secret of plain letters out of what others on the host can see", () => {
    const secret = "mfc_0123456789abcdefABCDEF-_=./";
    assert.ok(!argumentsFor({ TOKEN: secret }).some((arg) => arg.includes(secret)));
  });

  it("map each machine's root to a user far from the host's, the same each time", () => {
    fc.assert(
      fc.property(fc.string(), (name) => {
        const uid = rootUid(name, powers)!;
        assert.ok(uid >= 0x7000_0000 && uid + 65_536 < 2 ** 31);
        assert.equal(uid % 65_536, 0);
        assert.equal(rootUid(name, powers), uid);
      }),
    );
    assert.equal(rootUid("abc-1", { ...powers, rootless: true }), null);
    assert.equal(rootUid("abc-1", { ...powers, userNamespace: false }), null);
  });

  it("leave out what the host cannot do", () => {
    const weak = wallArguments(size, "abc-1", { ...powers, limits: false, userNamespace: false });
    assert.ok(!weak.some((arg) => /^--(memory|cpus|pids|uidmap|storage)/.test(arg)));
    assert.ok(weak.includes("--ulimit=fsize=21474836480"));
    const strong = wallArguments(size, "abc-1", { ...powers, quota: true });
    assert.ok(strong.includes("--storage-opt=size=20G"));
  });
});

it("podman is configured to give a machine nothing of the host's hosts and proxies", () => {
  const conf = containersConf({ runtime: "crun", cgroupManager: "systemd" });
  for (const line of ['base_hosts_file = "none"', "http_proxy = false", 'runtime = "crun"']) {
    assert.ok(conf.includes(`\n${line}\n`), line);
  }
});

describe("podman's words", () => {
  const cases = [
    ["Error: localhost/nope:1: image not known", "invalid"],
    ["Error: invalid reference format", "invalid"],
    [
      'Error: runc: exec: "/x": stat /x: no such file: OCI runtime attempted to invoke a command that was not found',
      "invalid",
    ],
    ["Error: writing blob: no space left on device", "quota"],
    [
      "Error: allocating lock for new container: allocation failed; exceeded num_locks (2048)",
      "quota",
    ],
    ["Error: fork/exec /usr/bin/conmon: resource temporarily unavailable", "no_capacity"],
    ["Error: pinging registry: dial tcp: i/o timeout", "unreachable"],
    ["toomanyrequests: You have reached your pull rate limit", "throttled"],
    ["", "unreachable"],
  ] as const;
  for (const [words, kind] of cases) {
    it(`${words.slice(0, 60) || "none"}: ${kind}`, () => {
      const failure = failureOf("abc-1", words);
      assert.equal(failure.kind, kind);
      assert.match(failure.message, /^abc-1: ./);
    });
  }

  it("tell a name that is taken from all else", () => {
    const taken =
      'Error: creating container storage: the container name "x" is already in use by 12. You have to remove that container to be able to reuse that name: that name is already in use';
    assert.equal(isNameInUse(taken), true);
    assert.equal(isNameInUse("Error: container ID file found. Ensure the other container"), true);
    assert.equal(isNameInUse("Error: image is in use by a container"), false);
  });
});

describe("mounts", () => {
  let root: string;
  before(async () => {
    root = await mkdtemp(join(tmpdir(), "mayfly-mounts-"));
    for (const folder of ["state/p", "state/g", "tools"]) {
      await mkdir(join(root, folder), { recursive: true });
    }
    await symlink(join(root, "state"), join(root, "link"));
  });
  after(() => rm(root, { recursive: true }));

  const refuse = (from: string, to = "/opt/tools") => {
    const [folder, guestFolder] = [join(root, "state/p"), join(root, "state/g")];
    const here = { ...context, stateFolder: join(root, "state"), folder, guestFolder };
    return refuseMounts([{ from, to }], here);
  };

  it("may be anything that shows nothing of our state", async () => {
    await refuse(join(root, "tools"));
  });

  it("are refused when they show our state, by its name, from above, or by a link", async () => {
    for (const from of [
      join(root, "state"),
      join(root, "state/p"),
      root,
      "/",
      join(root, "link"),
    ]) {
      await assert.rejects(refuse(from), { kind: "invalid" }, from);
    }
  });

  it("are refused when they are not there, or cover what a machine is given", async () => {
    await assert.rejects(refuse(join(root, "nowhere")), { kind: "invalid" });
    for (const to of ["/", "/run/mayfly/program", "/run/mayfly", "/run", "/proc/sys", "/dev"]) {
      await assert.rejects(refuse(join(root, "tools"), to), { kind: "invalid" }, to);
    }
  });

  it("are absolute, without what podman would read as more", () => {
    for (const from of ["tools", "", "/a:/b", "/a,b", "/a/../b", "/a\0"]) {
      assert.equal(podmanOptions.safeParse({ mounts: [{ from, to: "/x" }] }).success, false, from);
    }
    assert.equal(podmanOptions.safeParse({ mounts: [{ from: "/a", to: "/b" }] }).success, true);
    assert.equal(podmanOptions.safeParse({ unknown: 1 }).success, false);
  });
});
