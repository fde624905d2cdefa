import { MayflyError } from "../domain/errors.ts";
import { checkWork } from "../domain/native-work.ts";
import type { TestCase } from "../executor/junit.ts";
import { mkScript } from "../executor/mk.ts";
import { commandScript, type Script } from "../executor/steps.ts";
import { zeroCiScript } from "../executor/zeroci.ts";
import type { ZeroCiJob } from "../executor/zeroci-file.ts";
import { git } from "./git.ts";
import type { LocalTree } from "./local-tree.ts";
import type { RunFlags, RunSettings } from "./run-settings.ts";

/** What a script is told of the machine that it will run in. */
export interface ScriptPlace {
  readonly kind: string;
  readonly machine: string;
  readonly say: (line: string) => void;
  readonly report: (cases: readonly TestCase[] | null) => void;
}

/** One machine's worth of work. */
export interface ScriptChoice {
  /** What people call it, where there are several. */
  readonly title: string | null;
  /** The image that it is written for. */
  readonly image: string | null;
  /** Throws `invalid` where this place will not do. */
  script(place: ScriptPlace): Script;
}

/**
 * What is to be run: the command, or what the tree has: a mkfile, else a zeroCI.yaml. Throws
 * `invalid` with what to do.
 */
export async function chooseScripts(
  command: readonly string[],
  flags: RunFlags,
  tree: LocalTree,
  settings: RunSettings,
): Promise<ScriptChoice[]> {
  const { environment, timeoutSeconds } = settings;
  const artifacts = flags.artifact ?? [];
  const source = { kind: "none" } as const;
  const words = command.length > 0 ? command : ["true"];
  checkWork({ source, command: words, environment, timeoutSeconds, artifacts });
  if (flags.shell) {
    if (command.length === 0) return [single(commandScript(null, ["true"], []))];
    throw new MayflyError("invalid", "give a command or ask for a shell, not both", {
      where: "--shell",
    });
  }
  if (command.length > 0) return [single(commandScript("", command, artifacts))];
  if ((await tree.file("mkfile")) !== null) {
    const variables = Object.keys(environment);
    return [
      {
        title: null,
        image: null,
        script: ({ kind, machine, say }) =>
          mkScript({ isHost: kind === "host", machine, variables, artifacts, say }),
      },
    ];
  }
  const file = await tree.file("zeroCI.yaml");
  if (file !== null) {
    // Reading YAML takes more code than all else that a run needs.
    const { readZeroCi } = await import("../executor/zeroci-file.ts");
    return zeroCi(readZeroCi(file), await publicName(tree));
  }
  throw new MayflyError("invalid", `${tree.name} has neither a mkfile nor a zeroCI.yaml`, {
    hint: `Commit one, or say what to run: mayfly run -- ${await likelyTest(tree)}`,
  });
}

/** What its test probably is, by the files that it has. */
async function likelyTest(tree: LocalTree): Promise<string> {
  const signs = {
    "package.json": "npm test",
    "Cargo.toml": "cargo test",
    "go.mod": "go test ./...",
  };
  for (const [file, command] of Object.entries(signs)) {
    if ((await tree.file(file)) !== null) return command;
  }
  return "make test";
}

function single(script: Script): ScriptChoice {
  return { title: null, image: null, script: () => script };
}

function zeroCi(jobs: readonly ZeroCiJob[], repository: string): ScriptChoice[] {
  return jobs.map((job): ScriptChoice => ({
    title: jobs.length === 1 ? null : job.name,
    image: job.image,
    script: ({ kind, say, report }) => {
      if (kind === "host") {
        throw new MayflyError("invalid", "its steps write to / of their machine", {
          where: "zeroCI.yaml",
          hint: "Take a provider whose machines have a file system of their own: podman.",
        });
      }
      if (job.prerequisites.length > 0) {
        say(`the image is to have what zeroCI.yaml asks for: ${job.prerequisites.join(", ")}`);
      }
      return zeroCiScript(job, { repository, report });
    },
  }));
}

/** `org/repository` by where it was cloned from; the organisation is `local` where that is unknown. */
async function publicName({ top, name }: LocalTree): Promise<string> {
  const { stdout } = await git(["-C", top, "remote", "get-url", "--", "origin"]);
  const [, org, own] =
    /[/:]([A-Za-z0-9_.-]+)\/([A-Za-z0-9_.-]+?)(?:\.git)?\/?\s*$/.exec(stdout) ?? [];
  const plain = [org ?? "local", own ?? name].map((part) => part.replace(/[^A-Za-z0-9_.-]/g, "-"));
  return plain.some((part) => /^\.*$/.test(part)) ? "local/repository" : plain.join("/");
}
