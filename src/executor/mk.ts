import { MayflyError } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";
import { readDump, recipeStatus, type MkFile } from "./mk-rules.ts";
import {
  containerScript,
  containersScript,
  privateScript,
  pullScript,
  surveyScript,
} from "./mk-scripts.ts";
import {
  isGood,
  verdictOf,
  type Script,
  type Step,
  type StepResult,
  type Verdict,
} from "./steps.ts";

export interface MkParts {
  /** Whether the machine is this host itself, without a file system of its own. */
  readonly isHost: boolean;
  readonly machine: string;
  /** The names of the declared variables, which a container is given too. */
  readonly variables: readonly string[];
  /** Files wanted of `/var/run/ci/artifacts/%`. */
  readonly artifacts: readonly string[];
  /** A line for the person. */
  readonly say: (line: string) => void;
}

const place = "/var/run/ci";
const imageTarget = `${place}/env/CONTAINERIMAGE`;

/** What is known of a machine in which targets run. */
interface Ground {
  readonly file: MkFile;
  readonly mk: string;
  /** The folder behind /var/run/ci. */
  readonly ci: string;
  /** Put before a command so that it sees that folder as /var/run/ci. */
  readonly prefix: readonly string[];
}

/**
 * Runs a repository's own targets, those that it has, in this order: `base-image`,
 * `prepare-runtime`, `test`, its artifacts, `post-test`. The verdict is that of `test`, or of what
 * kept it from running; one that comes after it only turns a success into a failure.
 */
export async function* mkScript(parts: MkParts): Script {
  const ground = yield* survey(parts);
  const { file, mk } = ground;
  for (const target of ["base-image", "prepare-runtime"]) {
    // One that needs the other makes it itself, and once is enough.
    const isPart = target === "base-image" && file.needs("prepare-runtime", target);
    if (!file.targets.has(target) || isPart) continue;
    const result = yield step(target, [...ground.prefix, mk, target]);
    if (!isGood(result)) return verdictOf(result);
  }
  const image = yield* containerImage(ground);
  const wrap = image === null ? null : yield* container(image, ground, parts);
  const inside = (words: readonly string[]): string[] =>
    wrap === null ? [...ground.prefix, ...words] : [...wrap, ...words];
  const environment = image === null ? {} : { CONTAINERIMAGE: image };

  const title = wrap === null ? "test" : `test in ${image}`;
  const tested = yield { ...step(title, inside([mk, "test"])), environment };
  let verdict = verdictOf(tested);
  if (tested.how === "cancelled" || tested.how === "lost" || tested.how === "error") return verdict;

  const wanted = [
    ...[...file.targets].filter((target) => target.startsWith(`${place}/artifacts/`)),
    ...parts.artifacts.map((name) => `${place}/artifacts/${name}`),
  ];
  if (wanted.length > 0 && tested.how === "exited") {
    const made = yield { ...step("artifacts", inside([mk, ...wanted])), environment };
    verdict = worse(verdict, verdictOf(made));
  }
  const artifacts = { root: `${ground.ci}/artifacts`, patterns: ["**"], to: "folder" } as const;
  yield { title: null, command: ["true"], artifacts };
  if (file.targets.has("post-test") && tested.how === "exited") {
    const after = yield { ...step("post-test", [...ground.prefix, mk, "post-test"]), environment };
    verdict = worse(verdict, verdictOf(after));
  }
  return verdict;
}

/** mk ends with 1 whatever a recipe ended with; the recipe's own status says more. */
function step(title: string, command: readonly string[]): Step {
  return { title, command, trueStatus: recipeStatus };
}

function worse(verdict: Verdict, later: Verdict): Verdict {
  const isSound = verdict.how === "exited" && verdict.exitCode === 0;
  return isSound ? later : verdict;
}

async function* survey(parts: MkParts): AsyncGenerator<Step, Ground, StepResult> {
  const kind = parts.isHost ? "host" : "own";
  const result = yield { title: null, command: ["sh", "-c", surveyScript, "mayfly", kind] };
  const said = (name: string): string | null =>
    new RegExp(`^${name}=(.*)$`, "m").exec(result.stdout)?.[1] ?? null;
  if (result.how !== "exited") throw new StepFailed(verdictOf(result));
  const [ci, mk, how] = [said("ci"), said("mk"), said("private")];
  if (ci === null) throw unusable(`/var/run/ci cannot be made: ${lastLine(result.stderr)}`);
  if (mk === null) {
    throw unusable("there is no mk", "Install 9base there (Debian: apt-get install 9base).");
  }
  const file = readDump(result.stdout);
  if (file === null || (result.exitCode !== 0 && !/don't know how to make/.test(result.stderr))) {
    throw new MayflyError("invalid", `mk cannot use it: ${mkWords(result.stderr)}`, {
      where: "mkfile",
      hint: "Mend it and commit; `mk -n test` shows the same.",
    });
  }
  if (!file.targets.has("test")) {
    throw new MayflyError("invalid", "it has no target `test`", {
      where: "mkfile",
      hint: "Add `test:V:` and its recipe, or give a command: mayfly run -- COMMAND.",
    });
  }
  if (result.exitCode !== 0) {
    throw new MayflyError("invalid", mkWords(result.stderr), {
      where: "mkfile",
      hint: "Give what `test` needs a rule of its own, or commit the file.",
    });
  }
  if (parts.isHost && how === null) {
    parts.say("note: this host allows no mount namespace, so /var/run/ci is not the run's own");
  }
  const prefix =
    !parts.isHost || how === null
      ? []
      : ["sh", "-c", privateScript, "mayfly", ci, how.replace(/\.$/, "")];
  return { file, mk, ci, prefix };
}

/** The image that the repository wants its tests in: of its own target, file or variable. */
async function* containerImage({
  file,
  mk,
  ci,
  prefix,
}: Ground): AsyncGenerator<Step, string | null, StepResult> {
  if (file.targets.has(imageTarget)) {
    const made = yield step("CONTAINERIMAGE", [...prefix, mk, imageTarget]);
    if (!isGood(made)) throw new StepFailed(verdictOf(made));
  }
  const script = 'if [ -f "$1" ]; then head -c 1000 -- "$1"; else printf %s "$CONTAINERIMAGE"; fi';
  const path = `${ci}/env/CONTAINERIMAGE`;
  const read = yield { title: null, command: ["sh", "-c", script, "mayfly", path] };
  const image = (read.stdout.trim() || file.variables.get("CONTAINERIMAGE")?.trim()) ?? "";
  if (image === "") return null;
  if (/^[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,254}$/.test(image)) return image;
  throw new MayflyError("invalid", `${quote(image)} is no name of an image`, {
    where: "CONTAINERIMAGE",
    hint: "Write it like debian:12 or registry.example/team/image@sha256:….",
  });
}

/** What to put before a command so that it runs in the image; null: this machine has no containers. */
async function* container(
  image: string,
  { mk, ci }: Ground,
  { machine, variables, say }: MkParts,
): AsyncGenerator<Step, readonly string[] | null, StepResult> {
  const found = yield { title: null, command: ["sh", "-c", containersScript] };
  const tool = /^tool=(podman|docker)$/m.exec(found.stdout)?.[1];
  if (tool === undefined) {
    say(`this machine runs no containers: test runs in the machine, not in ${image}`);
    return null;
  }
  const pull = ["sh", "-c", pullScript, "mayfly", tool, image];
  const had = yield { title: `getting ${image}`, command: pull };
  if (had.how !== "exited") throw new StepFailed(verdictOf(had));
  if (!isGood(had)) {
    throw new MayflyError("unavailable", `${quote(image)} cannot be had`, {
      where: "CONTAINERIMAGE",
      hint: `${tool} says why, above; \`base-image\` is where a repository makes or names its own.`,
    });
  }
  const passed = [...variables, "CI", "MAYFLY", "CONTAINERIMAGE"];
  const words = [tool, image, `${machine}-test`, ci, mk, ...passed, "--"];
  return ["sh", "-c", containerScript, "mayfly", ...words];
}

/** Ends a script from within its parts. */
export class StepFailed extends Error {
  readonly verdict: Verdict;

  constructor(verdict: Verdict) {
    super(verdict.detail);
    this.verdict = verdict;
  }
}

function unusable(what: string, hint = "Give the machine another image."): MayflyError {
  return new MayflyError("unavailable", `in the machine ${what}`, { where: "mkfile", hint });
}

function mkWords(stderr: string): string {
  return lastLine(stderr).replace(/^mk: /, "");
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
