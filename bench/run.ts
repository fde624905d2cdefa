import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { wallArguments } from "../src/providers/podman/arguments.ts";
import { Podman } from "../src/providers/podman/engine.ts";
import { baseImage } from "../src/providers/podman/image.ts";
import { findPowers } from "../src/providers/podman/powers.ts";
import { bundle } from "./bundle.ts";
import { median, type Bench, type Measure } from "./measure.ts";

const rounds = 11;
const artifactBytes = 2 ** 31;

/**
 * The shipped bundle, run in a small repository, beside podman alone with the same image, walls and
 * mounts; in turn, so that whatever else the host does hits both.
 */
export const run: Bench = {
  name: "run",
  about:
    "a command in a fresh container, from typing to its end, the container's removal included; " +
    "the memory that a large artifact takes on its way out",
  run: async () => {
    const folder = mkdtempSync(join(tmpdir(), "mayfly-bench-"));
    try {
      const mayfly = bundle(folder);
      const repository = makeRepository(folder);
      const state = join(folder, "state");
      const own = (): void => {
        const words = [mayfly, "run", "--provider", "podman", "--state", state, "--", "true"];
        must(process.execPath, words, { cwd: repository });
      };
      const bare = await barePodman(join(state, "providers", "podman"), folder, own);
      const [ours, theirs]: [number[], number[]] = [[], []];
      for (let round = 0; round < rounds; round++) {
        theirs.push(timeOf(bare));
        ours.push(timeOf(own));
      }
      return [
        {
          name: "mayfly run -- true",
          value: median(ours),
          unit: "ms",
          limit: median(theirs),
          limitName: "podman run --rm … true",
          sense: "at most",
          goal: 1.3,
        },
        await artifactMemory([mayfly, "run", "--state", state], repository, folder),
      ];
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
};

/** What a run that brings 2 GB out takes at most beyond one that brings out nothing. */
async function artifactMemory(
  command: readonly string[],
  repository: string,
  folder: string,
): Promise<Measure> {
  const host = [...command, "--provider", "host"];
  const out = join(folder, "out");
  const none = await peakMb([...host, "--", "true"], repository);
  const script = `head -c ${artifactBytes} /dev/zero >big`;
  const brought = ["--artifact", "big", "--artifacts", out, "--", "sh", "-c", script];
  const large = await peakMb([...host, ...brought], repository);
  if (statSync(join(out, "big")).size !== artifactBytes)
    throw new Error("the artifact is not whole");
  return {
    name: "memory for 2 GB to come out",
    value: large - none,
    unit: "MB",
    limit: artifactBytes / 2 ** 20,
    limitName: "all of it held",
    sense: "at most",
    goal: 0.1,
  };
}

/** The most memory that this process of Node ever had, by what the kernel last said of it. */
async function peakMb(words: readonly string[], cwd: string): Promise<number> {
  const child = spawn(process.execPath, words, { cwd, stdio: "ignore" });
  let peak = 0;
  const look = setInterval(() => {
    const status = readFileSync(`/proc/${child.pid}/status`, "utf8");
    peak = Math.max(peak, Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) / 1024);
  }, 20);
  const code = await new Promise((resolve) => child.once("close", resolve));
  clearInterval(look);
  if (code !== 0) throw new Error(`a run ended with status ${String(code)}`);
  return peak;
}

/** `podman run` with what Mayfly gives it; `first` has made the image and found what podman can. */
async function barePodman(own: string, folder: string, first: () => void): Promise<() => void> {
  first();
  const powers = await findPowers(own, AbortSignal.timeout(60_000));
  const podman = await Podman.configured(own, "containers.conf", powers);
  const size = { cpu: 2, memoryMb: 2048, diskGb: 20 };
  mkdirSync(join(folder, "lent"));
  const words = [
    ...["run", "--rm", "--pull=missing", "--network=none", "--log-driver=k8s-file"],
    ...["--systemd=false", "--sdnotify=ignore", "--no-healthcheck", "--user=0:0", "--timeout=3600"],
    ...wallArguments(size, "bench-machine", powers),
    ...["program", "guest"].map(
      (name) => `--volume=${join(folder, "lent")}:/run/mayfly/${name}:ro`,
    ),
    ...[baseImage, "true"],
  ];
  const env = { ...process.env, CONTAINERS_CONF: podman.conf };
  return () => must("podman", words, { env });
}

function makeRepository(folder: string): string {
  const repository = join(folder, "repository");
  mkdirSync(repository);
  writeFileSync(join(repository, "file"), "content\n");
  const identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
  const git = (...words: string[]) =>
    execFileSync("git", ["-C", repository, ...identity, ...words]);
  git("init", "-q");
  git("add", "-A");
  git("commit", "-qm", "first");
  return repository;
}

function timeOf(work: () => void): number {
  const startedAt = performance.now();
  work();
  return performance.now() - startedAt;
}

function must(
  tool: string,
  words: readonly string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv },
): void {
  const { status, stderr } = spawnSync(tool, words, { ...options, encoding: "utf8" });
  if (status !== 0) throw new Error(`${tool} ended with status ${status}: ${stderr}`);
}
