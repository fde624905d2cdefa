import { readFile, readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { cpio, type CpioEntry } from "./cpio.ts";
import { slimModule } from "./kernel.ts";
import { bootModules, ec2Modules, inLoadOrder, readDependencies } from "./modules.ts";

/** Written out, so that a bundler finds them. */
const insideFiles = {
  init: new URL("../inside/init.pl", import.meta.url),
  "mayfly/Binfmt.pm": new URL("../inside/Binfmt.pm", import.meta.url),
  "mayfly/Channel.pm": new URL("../inside/Channel.pm", import.meta.url),
  "mayfly/Json.pm": new URL("../inside/Json.pm", import.meta.url),
  "mayfly/Kernel.pm": new URL("../inside/Kernel.pm", import.meta.url),
  "mayfly/Network.pm": new URL("../inside/Network.pm", import.meta.url),
  "mayfly/Relay.pm": new URL("../inside/Relay.pm", import.meta.url),
  "mayfly/Root.pm": new URL("../inside/Root.pm", import.meta.url),
  "mayfly/Scratch.pm": new URL("../inside/Scratch.pm", import.meta.url),
  "mayfly/Task.pm": new URL("../inside/Task.pm", import.meta.url),
} as const;
const ec2Files = {
  "mayfly/Dhcp.pm": new URL("../inside/Dhcp.pm", import.meta.url),
  "mayfly/Ec2.pm": new URL("../inside/Ec2.pm", import.meta.url),
  "mayfly/Metadata.pm": new URL("../inside/Metadata.pm", import.meta.url),
} as const;
/** Where init mounts things, before there is a system. */
const mountPoints = ["base", "dev", "proc", "root", "scratch", "store", "sys"];

/**
 * The first file system of a machine: Perl with the libraries it needs, out of the image's own
 * packages, our init, and the modules it loads, in order. `system` is a tree with Perl in it;
 * `modules` is one kernel's folder below lib/modules, with depmod's lists.
 */
export async function makeInitramfs(system: string, modules: string): Promise<Buffer> {
  const entries: CpioEntry[] = [
    ...mountPoints.map((path): CpioEntry => ({ path, kind: "folder", mode: 0o755 })),
    { path: "dev/console", kind: "device", mode: 0o600, device: [5, 1] },
    ...(await perl(system)),
    ...(await scripts(insideFiles)),
    ...(await withOrder("order", bootModules, modules)),
  ];
  return cpio(entries);
}

/** What a machine of EC2 has besides: an archive of its own, which Linux unpacks over the first. */
export async function makeEc2Initramfs(modules: string): Promise<Buffer> {
  return cpio([
    ...(await scripts(ec2Files)),
    ...(await withOrder("ec2-order", ec2Modules, modules)),
  ]);
}

async function scripts(files: Readonly<Record<string, URL>>): Promise<CpioEntry[]> {
  const entries: CpioEntry[] = [];
  for (const [path, url] of Object.entries(files)) {
    const mode = path === "init" ? 0o755 : 0o644;
    entries.push({ path, kind: "file", mode, content: await readFile(url) });
  }
  return entries;
}

/** The modules of these names with all they need, and their list in the order of loading. */
async function withOrder(
  name: string,
  wanted: readonly string[],
  modules: string,
): Promise<CpioEntry[]> {
  const dependencies = readDependencies(await readFile(join(modules, "modules.dep"), "utf8"));
  const order = inLoadOrder(wanted, dependencies);
  const entries: CpioEntry[] = [];
  for (const file of order) {
    const content = slimModule(await readFile(join(modules, file)));
    entries.push({ path: `modules/${basename(file)}`, kind: "file", mode: 0o644, content });
  }
  const list = Buffer.from(order.map((file) => `${basename(file)}\n`).join(""));
  return [...entries, { path: `modules/${name}`, kind: "file", mode: 0o644, content: list }];
}

async function perl(system: string): Promise<CpioEntry[]> {
  const entries: CpioEntry[] = [];
  const add = async (from: string, path = from, mode = 0o755): Promise<void> => {
    entries.push({ path, kind: "file", mode, content: await readFile(join(system, from)) });
  };
  await add("usr/bin/perl");
  const triplet = (await readdir(join(system, "usr/lib"))).find((name) =>
    name.endsWith("-linux-gnu"),
  );
  const libraries = `usr/lib/${triplet}`;
  for (const name of (await readdir(join(system, libraries))).sort()) {
    if (/^lib(c|m|crypt)\.so\.\d+$/.test(name)) {
      await add(`${libraries}/${name}`, `lib/${triplet}/${name}`);
    }
    // The linker's own path is the machine's, and part of every program's header.
    if (name.startsWith("ld-linux-")) {
      await add(`${libraries}/${name}`, `${name.includes("x86-64") ? "lib64" : "lib"}/${name}`);
    }
  }
  await add(`${libraries}/perl-base/strict.pm`);
  return entries;
}
