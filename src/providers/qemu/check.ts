import { access, constants } from "node:fs/promises";
import { join } from "node:path";
import { ProviderError } from "../../domain/errors.ts";
import type { Architecture } from "../../domain/size.ts";
import { counted, listed } from "../../domain/words.ts";
import { lastWords, runTool } from "../child.ts";
import { bareEnvironment, hostArchitecture, hostSize } from "../local.ts";
import type { Capabilities, Check, ProviderContext } from "../provider.ts";
import { findAcceleration, findBoard, type Acceleration } from "./accelerator.ts";
import { qemuBinary } from "./arguments.ts";
import { findFacts, labelsOf } from "./facts.ts";
import { architectures, imageFor } from "./guests.ts";
import { verifyOnce } from "./image/images.ts";
import type { StoredImage } from "./image/manifest.ts";
import type { QemuOptions } from "./options.ts";
import { gateFault, gateMend } from "./reach.ts";
import { qemuMend } from "./run.ts";

const imageMend = "build it: mayfly image build";
const never = new AbortController().signal;

/** What machines here can be, as far as the images that are there tell; and what to warn of. */
export async function lendsOf(
  options: QemuOptions,
  context: ProviderContext,
): Promise<{ capabilities: Capabilities; warning: string | null }> {
  const images = await imagesHere(options, context);
  const own = hostArchitecture();
  const first = images[0];
  const acceleration =
    first === undefined
      ? null
      : await findAcceleration(options.accelerator, kernelOf(first), context.folder, never);
  const facts = await findFacts();
  const found = images.map(({ architecture }) => architecture);
  const capabilities: Capabilities = {
    architectures: found.length > 0 || own === null ? found : [own],
    maximum: await hostSize(context.folder),
    channel: "socket",
    accepts: ["trusted", "fork"],
    labels: acceleration === null ? ["qemu"] : labelsOf(acceleration.accelerator, facts),
  };
  const why = acceleration?.why ?? null;
  const warning = why === null ? null : `machines are emulated, which is many times slower: ${why}`;
  return { capabilities, warning };
}

/** The image of each architecture for pools that name none; its bytes are not looked at. */
async function imagesHere(options: QemuOptions, context: ProviderContext): Promise<StoredImage[]> {
  const found: StoredImage[] = [];
  for (const architecture of architectures()) {
    const image = await imageFor(null, architecture, options, context).catch(ignoreInvalid);
    if (image !== null) found.push(image);
  }
  return found;
}

function kernelOf({ architecture, folder }: StoredImage) {
  return { architecture, kernel: join(folder, "kernel") };
}

function ignoreInvalid(error: unknown): null {
  if (error instanceof ProviderError) return null;
  throw error;
}

/** What the provider needs on this host, for `mayfly doctor`. */
export async function checkQemu(
  options: QemuOptions,
  context: ProviderContext,
  signal: AbortSignal,
): Promise<readonly Check[]> {
  const architecture = hostArchitecture();
  if (process.platform !== "linux" || architecture === null) {
    const detail = `${process.platform} ${process.arch}`;
    return [{ name: "system", ok: false, detail, mend: "use Linux on x64 or arm64" }];
  }
  const images = await imagesHere(options, context);
  const needed = images.length === 0 ? [architecture] : images.map((image) => image.architecture);
  const tools = await Promise.all([
    ...needed.map((each) => qemu(each, signal)),
    tool("setpriv", ["--version"], "install it: apt-get install util-linux", signal),
    tool("perl", ["-MTime::HiRes", "-e", "print $^V"], "install it: apt-get install perl", signal),
  ]);
  if (tools.some(({ ok }) => !ok)) return tools;
  const image = await sound(options, context, architecture);
  const first = images[0];
  const acceleration =
    first === undefined
      ? null
      : await findAcceleration(options.accelerator, kernelOf(first), context.folder, signal);
  const network = await gate(first?.architecture ?? architecture, signal);
  return [...tools, image, await speed(acceleration), network, await host()];
}

async function qemu(architecture: Architecture, signal: AbortSignal): Promise<Check> {
  return tool(qemuBinary(architecture), ["--version"], qemuMend, signal);
}

async function tool(
  name: string,
  args: readonly string[],
  mend: string,
  signal: AbortSignal,
): Promise<Check> {
  const options = { signal, environment: bareEnvironment(), mend };
  try {
    const { code, stdout, stderr } = await runTool(name, args, options);
    const [first = ""] = stdout.split("\n");
    if (code === 0) return { name, ok: true, detail: first, mend: null };
    return { name, ok: false, detail: lastWords(stderr), mend };
  } catch (error) {
    if (!(error instanceof ProviderError) || error.kind !== "invalid") throw error;
    return { name, ok: false, detail: `${name} is not installed`, mend };
  }
}

async function sound(
  options: QemuOptions,
  context: ProviderContext,
  architecture: Architecture,
): Promise<Check> {
  const name = "image";
  try {
    const image = await imageFor(null, architecture, options, context);
    await verifyOnce(image);
    const { variant, suite, digest } = image;
    const detail = `${variant} of ${suite}, ${digest.slice(0, 12)}, every byte as it was built`;
    return { name, ok: true, detail, mend: null };
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return { name, ok: false, detail: error.message, mend: imageMend };
  }
}

async function speed(acceleration: Acceleration | null): Promise<Check> {
  const name = "speed";
  if (acceleration === null) {
    return { name, ok: true, detail: "not tried before there is an image", mend: null };
  }
  const { accelerator, why } = acceleration;
  if (why === null) return { name, ok: true, detail: "KVM, by a trial boot", mend: null };
  const { board } = await findBoard("auto", "x64", accelerator);
  const kvm = await access("/dev/kvm", constants.F_OK).then(
    () => "let Mayfly read and write /dev/kvm, on a host where Linux boots under it",
    () => "use a host with KVM, or one that passes virtualization on",
  );
  const detail = `machines (${board}) are emulated, many times slower than KVM: ${why}`;
  return { name, ok: false, detail, mend: kvm, isOptional: true };
}

/** Only pools with a network that strangers' jobs may use need this. */
async function gate(architecture: Architecture, signal: AbortSignal): Promise<Check> {
  const name = "network";
  const failed = { name, ok: false, isOptional: true } as const;
  const fault = await gateFault();
  if (fault !== null) return { ...failed, detail: fault, mend: gateMend };
  const binary = qemuBinary(architecture);
  const options = { signal, environment: bareEnvironment(), mend: qemuMend };
  const { stdout } = await runTool(binary, ["-object", "help"], options);
  if (!stdout.includes("filter-redirector")) {
    const detail = `${binary} has no filter-redirector, which strangers' jobs need for a network`;
    return { ...failed, detail, mend: "use the QEMU of Debian or Ubuntu" };
  }
  const detail = "strangers' jobs reach the public internet alone, where their pool has a network";
  return { name, ok: true, detail, mend: null };
}

/** What the host has that machines do not get is said here, where labels would promise it. */
async function host(): Promise<Check> {
  const { gpus, hasCounters, cpuFeatures } = await findFacts();
  const words = [
    gpus.length === 0 ? "no GPU" : `${counted(gpus.length, "GPU")}, which machines do not get`,
    hasCounters ? "performance counters, for machines under KVM" : "no performance counters",
    `processor: ${cpuFeatures.length === 0 ? "nothing special" : listed(cpuFeatures, 10)}`,
  ];
  return { name: "host", ok: true, detail: words.join("; "), mend: null };
}
