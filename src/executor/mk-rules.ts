/** What `mk -n -dp` says of a mkfile: its targets and the variables that it sets. */
export interface MkFile {
  readonly targets: ReadonlySet<string>;
  /** Targets with a `%` or a `&` in them. */
  readonly patterns: ReadonlySet<string>;
  readonly variables: ReadonlyMap<string, string>;
  /** Whether a target names the other as what it needs. */
  needs(target: string, other: string): boolean;
}

/**
 * Reads the dump of 9base's mk. A target that has no rule but a file of its name would be "up to
 * date" without anything being run, so it is not enough to ask mk whether it can make it.
 */
export function readDump(dump: string): MkFile | null {
  const targets = new Set<string>();
  const needs = new Map<string, string[]>();
  const patterns = new Set<string>();
  const variables = new Map<string, string>();
  let into: Set<string> | null = null;
  let isRecipe = false;
  let isVariables = false;
  let isDump = false;
  for (const line of dump.split("\n")) {
    if (isRecipe) {
      isRecipe = line !== "'";
    } else if (line.startsWith("default targets")) {
      isDump = true;
    } else if (line.startsWith("rules: ")) {
      [into, isDump] = [targets, true];
    } else if (line.startsWith("metarules: ")) {
      [into, isDump] = [patterns, true];
    } else if (line === "variables:") {
      [isVariables, isDump] = [true, true];
    } else if (isVariables && line.startsWith("\t")) {
      // A list is written 'a''b'; one with blanks in it is not told from that, and none is needed.
      const [, name = "", value = ""] = /^\t([^=]+)='(.*)'$/.exec(line) ?? [];
      if (name !== "") variables.set(name, value.replaceAll("''", " "));
    } else if (/^\trecipe@[0-9a-f]*='/.test(line)) {
      // An empty one is closed on its own line.
      isRecipe = !/^\trecipe@[0-9a-f]*='.*'$/.test(line);
    } else if (into !== null && line.startsWith("\ttarget=")) {
      const [, target = "", others = ""] = /^\ttarget=([^:]*):(.*)$/.exec(line) ?? [];
      if (target === "") continue;
      into.add(target);
      needs.set(target, [...(needs.get(target) ?? []), ...others.trim().split(/\s+/)]);
    }
  }
  if (!isDump) return null;
  return {
    targets,
    patterns,
    variables,
    needs: (target, other) => needs.get(target)?.includes(other) === true,
  };
}

/** The status that a recipe really ended with: mk itself always ends with 1, and says the true one. */
export function recipeStatus(stderr: string): number | null {
  const told = [...stderr.matchAll(/^mk: .*: exit status=exit\((\d{1,3})\)$/gm)].at(-1)?.[1];
  const status = Number(told ?? 0);
  return status > 0 && status <= 255 ? status : null;
}
