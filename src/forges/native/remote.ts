import { chmod, mkdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MayflyError } from "../../domain/errors.ts";
import { quote } from "../../domain/words.ts";
import { git, type GitRun } from "./git.ts";

/** Below the state folder. */
const remotesFolder = "remotes";

export interface RemoteOptions {
  readonly name: string;
  readonly stateFolder: string;
  /** Mayfly's command: its absolute path, and words before its own, such as a Node's. */
  readonly mayfly: readonly [string, ...string[]];
  /** Where the manager's API is. */
  readonly server: string;
}

export interface Remote {
  /** The bare repository: what `git remote add` is given. */
  readonly path: string;
  /** False when it was there before; its hook was written anew. */
  readonly isNew: boolean;
}

/**
 * Makes a bare repository whose pushed branches become native jobs: the target `test`, or what
 * `git config mayfly.command` there says, in the pool `mayfly.pool` if set. Again for the same name,
 * it keeps the repository and writes the hook anew. Throws `invalid`, `unavailable`.
 */
export async function createRemote(options: RemoteOptions): Promise<Remote> {
  const { name, stateFolder, mayfly, server } = options;
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name) || name.includes("..")) {
    throw new MayflyError("invalid", `${quote(name)} is no name for a remote`, {
      where: "name",
      hint: "Letters, digits and . _ - are good, at most 64, and a letter or digit comes first.",
    });
  }
  if (!mayfly[0].startsWith("/")) {
    throw new MayflyError("invalid", `${quote(mayfly[0])} is no absolute path`, {
      where: "mayfly",
    });
  }
  const path = join(stateFolder, remotesFolder, `${name}.git`);
  const isNew = (await stat(join(path, "HEAD")).catch(() => null)) === null;
  const run: GitRun = {
    folder: path,
    configuration: "/dev/null",
    protocol: null,
    deadlineMs: 30_000,
    fileBytesMax: 2 ** 31,
  };
  await mkdir(path, { recursive: true, mode: 0o700 });
  if (isNew) await git(run, ["init", "--quiet", "--bare", "--template=", "--initial-branch=main"]);
  const hooks = join(path, "hooks");
  await mkdir(hooks, { recursive: true });
  // The pusher's own `core.hooksPath` would pass this hook over.
  await git(run, ["config", "--local", "core.hooksPath", hooks]);
  const hook = join(hooks, "post-receive");
  await writeFile(hook, postReceive(mayfly, server, path));
  await chmod(hook, 0o755);
  return { path, isNew };
}

const branchesMax = 20;

/** Runs in the bare repository, as whoever pushes. No name of a branch is ever part of a command. */
function postReceive(mayfly: readonly string[], server: string, path: string): string {
  const words = mayfly.map(shellWord).join(" ");
  return `#!/bin/sh
# Written by \`mayfly remote add\`; run it again after Mayfly has moved.
# Each pushed branch becomes a job: the target "test", or by
#   git config mayfly.command 'make check'     in this repository
#   git config mayfly.pool    small            where it shall run
command=$(git config --get mayfly.command)
pool=$(git config --get mayfly.pool)
unset $(git rev-parse --local-env-vars)

submit() {
  set -- --repo ${shellWord(path)} --rev "$1" "--name=$(printf %.200s "$2")"
  [ -z "$pool" ] || set -- "$@" --pool "$pool"
  [ -z "$command" ] || set -- "$@" -- sh -c "$command"
  ${words} submit --server ${shellWord(server)} "$@" </dev/null
}

branches=0
while read -r old new ref; do
  case $ref in refs/heads/*) ;; *) continue ;; esac
  # All zeros: the branch was deleted.
  case $new in *[!0]*) ;; *) continue ;; esac
  branches=$((branches + 1))
  if [ "$branches" -gt ${branchesMax} ]; then
    echo "mayfly: only the first ${branchesMax} branches of a push become jobs" >&2
    break
  fi
  branch=\${ref#refs/heads/}
  printf 'mayfly: %s at %.12s\\n' "$branch" "$new"
  submit "$new" "$branch" && continue
  echo "mayfly: no job was submitted for it; the push itself is done" >&2
  # A name that a shell would read as more is not offered to one.
  case $ref in *[!A-Za-z0-9._/-]*) continue ;; esac
  printf "mayfly: to try again: (cd %s && echo - %s %s | hooks/post-receive)\\n" \
    ${shellWord(shellWord(path))} "$new" "$ref" >&2
done
exit 0
`;
}

function shellWord(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
