import { randomBytes } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { runTool, toolEnvironment, type ChildOptions, type Finished } from "../child.ts";

export const podmanMend =
  "install it: apt-get install podman runc uidmap netavark aardvark-dns iptables slirp4netns";

export interface Settings {
  readonly runtime: string;
  readonly cgroupManager: string;
}

/**
 * A `containers.conf` that is read instead of the user's, so that nothing of theirs (volumes, their
 * environment, entries of /etc/hosts) gets into a machine, and theirs stays untouched.
 */
export function containersConf({ runtime, cgroupManager }: Settings): string {
  return `# Written by Mayfly at each start.
[containers]
base_hosts_file = "none"
http_proxy = false
[engine]
runtime = "${runtime}"
cgroup_manager = "${cgroupManager}"
events_logger = "none"
`;
}

/** Runs podman with a configuration of our own. */
export class Podman {
  readonly conf: string;

  constructor(conf: string) {
    this.conf = conf;
  }

  /** Writes the configuration into `folder` and gives the podman that uses it. */
  static async configured(folder: string, name: string, settings: Settings): Promise<Podman> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const conf = join(folder, name);
    // Whole or not at all: another process may read it at this moment.
    const draft = `${conf}.${randomBytes(4).toString("hex")}`;
    await writeFile(draft, containersConf(settings), { mode: 0o600 });
    await rename(draft, conf);
    return new Podman(conf);
  }

  /** One call. Whatever its exit status; throws only as `runTool` does. */
  run(
    args: readonly string[],
    signal: AbortSignal,
    more: Pick<ChildOptions, "isMute"> = {},
  ): Promise<Finished> {
    const environment = { ...toolEnvironment(), CONTAINERS_CONF: this.conf };
    const folder = dirname(this.conf);
    return runTool("podman", args, { signal, environment, mend: podmanMend, folder, ...more });
  }
}
