import { access, stat } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import { lastWords } from "../child.ts";
import { imageMend } from "../debian.ts";
import { hostArchitecture } from "../local.ts";
import type { Check, ProviderContext } from "../provider.ts";
import { Podman, podmanMend } from "./engine.ts";
import { baseImage, canMakeImage, hasImage } from "./image.ts";
import type { PodmanOptions } from "./options.ts";
import { refuseMounts } from "./mounts.ts";
import { findPowers, tryContainer, type Powers } from "./powers.ts";

/** What the provider needs on this host, found by trying; nothing is changed but its own folder. */
export async function checkPodman(
  options: PodmanOptions,
  context: ProviderContext,
  signal: AbortSignal,
): Promise<readonly Check[]> {
  const platform = `${process.platform} ${process.arch}`;
  if (process.platform !== "linux" || hostArchitecture() === null) {
    return [{ name: "system", ok: false, detail: platform, mend: "use Linux on x64 or arm64" }];
  }
  const version = await versionOf(signal);
  if (!version.ok) return [version];
  const found = await findPowers(context.folder, signal).catch((error: unknown) => {
    if (error instanceof ProviderError) return error.message;
    throw error;
  });
  if (typeof found === "string") {
    const mend =
      "install what is missing (apt-get install runc uidmap), or see docs/providers/podman.md";
    return [version, { name: "containers", ok: false, detail: found, mend }];
  }
  const podman = await Podman.configured(context.folder, "containers.conf", found);
  return [
    version,
    containersOf(found),
    walls(found),
    limits(found),
    store(found),
    disk(found),
    await image(podman, options, signal),
    ...(await mounts(options, context)),
    await socket(found, context),
    await network(podman, options, found, signal),
  ];
}

async function versionOf(signal: AbortSignal): Promise<Check> {
  const name = "podman";
  try {
    const { stdout } = await new Podman("/dev/null").run(["--version"], signal);
    const detail = stdout.trim();
    const ok = Number(/(\d+)\.\d+/.exec(detail)?.[1]) >= 4;
    return { name, ok, detail, mend: ok ? null : "use podman 4.3 or later, as in Debian 12" };
  } catch (error) {
    if (!(error instanceof ProviderError) || error.kind !== "invalid") throw error;
    return { name, ok: false, detail: "podman is not installed", mend: podmanMend };
  }
}

function containersOf({ rootless, runtime, cgroupManager }: Powers): Check {
  const detail = `start, ${rootless ? "as a user" : "as root"}, by ${runtime} and ${cgroupManager}`;
  return { name: "containers", ok: true, detail, mend: null };
}

function walls({ userNamespace }: Powers): Check {
  const detail = userNamespace
    ? "root of a machine is another user on this host"
    : "root of a machine is root on this host: trusted jobs only";
  const mend = userNamespace ? null : "run Mayfly where the kernel lets it map user ids";
  return { name: "user namespace", ok: userNamespace, detail, mend, isOptional: true };
}

function limits({ limits: ok, rootless }: Powers): Check {
  const detail = ok
    ? "memory, processors and processes are limited"
    : "memory, processors and processes are not limited: trusted jobs only";
  const asUser = "boot with cgroup v2 and let systemd delegate to users, or run Mayfly as root";
  const asRoot = "give Mayfly a cgroup tree that it may write to";
  const mend = ok ? null : rootless ? asUser : asRoot;
  return { name: "limits", ok, detail, mend, isOptional: true };
}

function store({ driver, graphRoot, rootless }: Powers): Check {
  const ok = driver !== "vfs";
  const file = rootless ? "~/.config/containers/storage.conf" : "/etc/containers/storage.conf";
  const mend = `set driver = "overlay" under [storage] in ${file}, and podman system reset`;
  const slow = ok ? "" : ", which copies the whole image for each machine";
  const detail = `${driver} in ${graphRoot}${slow}`;
  return { name: "store", ok, detail, mend: ok ? null : mend, isOptional: true };
}

function disk({ quota, graphRoot }: Powers): Check {
  const watched = `is watched, not limited; an XFS mounted with pquota at ${graphRoot} limits it`;
  return { name: "disk", ok: true, detail: quota ? "is limited" : watched, mend: null };
}

async function image(podman: Podman, options: PodmanOptions, signal: AbortSignal): Promise<Check> {
  const wanted = options.image ?? baseImage;
  const name = "image";
  if (await hasImage(podman, wanted, signal)) {
    return { name, ok: true, detail: wanted, mend: null };
  }
  if (options.image !== undefined) {
    const ok = options.pull !== "never";
    const mend = ok ? null : `podman pull ${wanted}, or set pull: missing`;
    return { name, ok, detail: `${wanted} is not here${ok ? " yet" : ""}`, mend };
  }
  const ok = await canMakeImage();
  const detail = ok ? `${wanted} will be made at the first start` : "mmdebstrap is not installed";
  return { name, ok, detail, mend: ok ? null : imageMend };
}

/** Nothing to say when none are configured: few are. */
async function mounts(options: PodmanOptions, context: ProviderContext): Promise<Check[]> {
  const name = "mounts";
  const mend = "make it there, or take it out of `mounts` in the configuration";
  try {
    await refuseMounts(options.mounts, context);
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return [{ name, ok: false, detail: error.message.replace(/^mounts: /, ""), mend }];
  }
  if (options.mounts.length === 0) return [];
  const lent = options.mounts.map(({ from, to }) => (from === to ? from : `${from} at ${to}`));
  return [{ name, ok: true, detail: `${lent.join(", ")}: lent read-only`, mend: null }];
}

/** A machine's root is a stranger to the guests' socket: its modes have to let it in. */
async function socket({ rootless }: Powers, { guestFolder }: ProviderContext): Promise<Check> {
  const path = join(guestFolder, "guest.sock");
  const modes = await Promise.all(
    [guestFolder, path].map((each) =>
      stat(each).then(
        ({ mode }) => mode,
        () => null,
      ),
    ),
  );
  const [folder, file] = modes;
  const name = "guests' socket";
  if (file === null || file === undefined) {
    return { name, ok: true, detail: "is made when Mayfly starts", mend: null };
  }
  const ok = rootless || ((folder ?? 0) & 0o001 && file & 0o002) !== 0;
  const detail = ok ? path : `${path} is closed to machines`;
  return { name, ok, detail, mend: ok ? null : `chmod 755 ${guestFolder}; chmod 666 ${path}` };
}

/** Only pools with `network: true` need this; its failure is no reason not to use podman. */
async function network(
  podman: Podman,
  options: PodmanOptions,
  powers: Powers,
  signal: AbortSignal,
): Promise<Check> {
  const name = "network";
  const wanted = options.image ?? baseImage;
  if (!(await hasImage(podman, wanted, signal))) {
    return { name, ok: true, detail: "not tried before there is an image", mend: null };
  }
  const tried = await tryContainer(podman, powers, ["--network=private", wanted, "true"], signal);
  if (tried.code === 0) return { name, ok: true, detail: "works for pools that ask", mend: null };
  const tun = await access("/dev/net/tun").then(
    () => "",
    () => "; a user also needs /dev/net/tun",
  );
  const mend = `apt-get install netavark aardvark-dns iptables slirp4netns${tun}`;
  return { name, ok: false, detail: lastWords(tried.stderr), mend, isOptional: true };
}
