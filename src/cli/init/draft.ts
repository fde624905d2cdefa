import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseDocument } from "yaml";
import { MayflyError } from "../../domain/errors.ts";

/** What `init` adds to a configuration. */
export interface Addition {
  /** The forge's name, and its pool's. */
  readonly name: string;
  readonly kind: string;
  /** As they are written; secrets by their names in `secrets`. */
  readonly options: Readonly<Record<string, unknown>>;
  /** A file each, beside the configuration, which its option then names. */
  readonly secrets: Readonly<Record<string, string>>;
  readonly labels: readonly string[];
  readonly accept: readonly string[];
  /** Where others reach this Mayfly; null: nothing is said of it. */
  readonly url: string | null;
}

/**
 * A configuration with a forge and its pool added, in a file beside the real one until it is known to
 * work. What the file held stays, with its comments.
 */
export class Draft {
  /** The draft itself, to be read like any configuration. */
  readonly file: string;
  readonly pool: string;
  readonly #target: string;
  readonly #secretFiles: readonly string[];

  /** Throws `conflict` when the name is taken, `invalid` when the file cannot be added to. */
  constructor(target: string, addition: Addition) {
    const folder = dirname(target);
    const { name, kind, secrets } = addition;
    const document = parseDocument(existsSync(target) ? readFileSync(target, "utf8") : "");
    const [fault] = document.errors;
    if (fault !== undefined) {
      throw new MayflyError("invalid", fault.message.split("\n")[0] ?? "", {
        where: target,
        hint: "Mend the file first: `mayfly config check`.",
      });
    }
    for (const part of ["forges", "pools"]) {
      if (!document.hasIn([part, name])) continue;
      throw new MayflyError("conflict", `there is ${part}.${name} already`, {
        where: target,
        hint: "Give another name: --name.",
      });
    }
    const options: Record<string, unknown> = { ...addition.options };
    const files = Object.entries(secrets).map(([option, value]) => {
      const path = join(folder, "secrets", `${name}-${option}`);
      options[option] = `file:${relative(folder, path)}`;
      return { path, value };
    });
    document.setIn(["forges", name], document.createNode({ [kind]: options }));
    const { labels, accept } = addition;
    document.setIn(["pools", name], document.createNode({ forge: name, labels, accept }));
    if (addition.url !== null && !document.has("url")) document.set("url", addition.url);
    this.pool = name;
    this.#target = target;
    this.#secretFiles = files.map(({ path }) => path);
    this.file = join(folder, `.mayfly-${randomBytes(4).toString("hex")}.yaml`);
    for (const { path } of files) refuseTaken(path);
    try {
      for (const { path, value } of files) {
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        writeFileSync(path, `${value.trim()}\n`, { mode: 0o600, flag: "wx" });
      }
      writeFileSync(this.file, document.toString({ lineWidth: 0 }), { mode: 0o644, flag: "wx" });
    } catch (error) {
      this.drop();
      throw error;
    }
  }

  /** It works: it becomes the configuration. */
  keep(): readonly string[] {
    renameSync(this.file, this.#target);
    return [this.#target, ...this.#secretFiles];
  }

  /** It does not: nothing of it stays. */
  drop(): void {
    for (const path of [this.file, ...this.#secretFiles]) rmSync(path, { force: true });
  }
}

function refuseTaken(path: string): void {
  if (!existsSync(path)) return;
  throw new MayflyError("conflict", "there is such a file already, of another setup", {
    where: path,
    hint: "Remove it if nothing needs it, or give another name: --name.",
  });
}
