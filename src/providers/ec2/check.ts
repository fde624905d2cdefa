import { ProviderError } from "../../domain/errors.ts";
import type { Capabilities, Check, MachineSpec } from "../provider.ts";
import type { Cloud } from "./cloud.ts";
import { Ec2Error } from "./errors.ts";
import type { Image, Images } from "./images.ts";
import type { Launcher } from "./launch.ts";
import type { Ec2Options } from "./options.ts";

export interface CheckParts {
  readonly options: Ec2Options;
  readonly cloud: Cloud;
  readonly images: Images;
  readonly launcher: Launcher;
  readonly lends: Capabilities;
  readonly installation: string;
  /** Whether identity documents can be verified. */
  readonly proves: boolean;
}

const permission = "see the table of permissions in the manual's page of ec2";

/** Tries what a machine needs with EC2's dry runs: nothing is made and nothing costs. */
export async function checkEc2(parts: CheckParts): Promise<readonly Check[]> {
  const { options, cloud } = parts;
  const account = await tried("account", permission, async () => {
    await cloud.list();
    return `EC2 in ${options.region} answers, and shows its instances`;
  });
  // Without an answer all the others would only say the same.
  if (!account.ok) return [account];
  return [
    account,
    await tried("subnets", "name subnets of this region", async () => {
      const zones = await cloud.zones(options.subnets);
      return options.subnets.map((id) => `${id} in ${zones.get(id) ?? "no zone"}`).join(", ");
    }),
    await inbound(parts),
    identity(parts),
    ...(await launches(parts)),
    await ends(parts),
  ];
}

function identity({ options, proves }: CheckParts): Check {
  const name = "identity of machines";
  if (proves) {
    const detail = "a claim is redeemed only by the instance that it was made for";
    return { name, ok: true, detail, mend: null, isOptional: true };
  }
  return {
    name,
    ok: false,
    detail: `no key of ${options.region} is known: whoever copies a claim first is believed`,
    mend: "take AWS's RSA certificate of the region into a file, and set identityCertificate",
    isOptional: true,
  };
}

async function inbound({ options, cloud }: CheckParts): Promise<Check> {
  const mend = "take its rules for inbound traffic away: Mayfly needs none";
  return tried("security groups", mend, async () => {
    const rules = await cloud.inbound(options.securityGroups);
    const open = [...rules].filter(([, count]) => count > 0).map(([id]) => id);
    if (open.length > 0) throw new ProviderError("invalid", `${open.join(", ")} lets traffic in`);
    return "nothing reaches a machine from outside";
  });
}

async function launches(parts: CheckParts): Promise<readonly Check[]> {
  const { options, lends, images } = parts;
  const checks: Check[] = [];
  for (const architecture of lends.architectures) {
    const find = () => images.find(options.image, architecture);
    const found = await tried(
      `image for ${architecture}`,
      "name an image that is there",
      async () => `${options.image} is ${(await find()).id}`,
    );
    checks.push(found);
    if (!found.ok) continue;
    const image = await find();
    const size = { cpu: 1, memoryMb: 1, diskGb: 1, gpu: 0, architecture };
    const name = `${parts.installation}-check`;
    checks.push(await launch(parts, image, { name, size }));
  }
  return checks;
}

async function launch(
  { launcher, cloud }: CheckParts,
  image: Image,
  { name, size }: Pick<MachineSpec, "name" | "size">,
): Promise<Check> {
  const spec = { name, size, image: null, network: true, trust: ["trusted"] } as const;
  const program = { files: [], command: ["true"], environment: {}, deadlineSeconds: 60 };
  return tried(`start for ${size.architecture}`, permission, async () => {
    const input = launcher.sample(spec, program, image);
    const failure = input === null ? null : await cloud.dryRun("RunInstances", input);
    if (failure !== null) throw failure;
    return "EC2 would start a machine, with its tags and its encrypted disk";
  });
}

async function ends({ cloud }: CheckParts): Promise<Check> {
  return tried("end", permission, async () => {
    const failure = await cloud.dryRun("TerminateInstances", "i-00000000000000000");
    // Who may not is told so before the instance is looked for.
    if (failure === null || failure.kind === "gone") return "EC2 would end a machine";
    throw failure;
  });
}

async function tried(name: string, mend: string, run: () => Promise<string>): Promise<Check> {
  try {
    return { name, ok: true, detail: await run(), mend: null };
  } catch (error) {
    if (!(error instanceof ProviderError)) throw error;
    return { name, ok: false, detail: error.message, mend: mendOf(error) ?? mend };
  }
}

function mendOf(error: ProviderError): string | null {
  const code = error instanceof Ec2Error ? error.code : "";
  const isStranger = ["AuthFailure", "InvalidClientTokenId", "UnrecognizedClientException"];
  if (code === "CredentialsProviderError") return "give this host a role, or set accessKey";
  if (isStranger.includes(code)) return "check the access key, and this host's clock";
  return error.kind === "unreachable" ? "check the region and the way to AWS" : null;
}
