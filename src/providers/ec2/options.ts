import { z } from "zod";
import { secret } from "../../domain/secret.ts";

const typeName = z
  .string()
  .regex(/^[a-z][a-z0-9-]*\.[a-z0-9-]+$/, "the name of an instance type, like c7i.large");

/** A type that Mayfly does not know by itself. */
const ownType = z.strictObject({
  name: typeName.describe("Its name at AWS."),
  architecture: z.enum(["x64", "arm64"]).describe("Its processor."),
  cpu: z.number().int().positive().describe("Its vCPUs."),
  memoryMb: z.number().int().positive().describe("Its memory, MiB."),
  usdPerHour: z.number().min(0).max(1000).describe("What it costs on demand."),
});

/** The keys of an `ec2` provider in the configuration. */
export const ec2Options = z.strictObject({
  region: z
    .string()
    .regex(/^[a-z]{2}(-[a-z]+)+-\d$/, "a region, like eu-central-1")
    .describe("The region of AWS that machines are in."),
  subnets: z
    .array(z.string().regex(/^subnet-[0-9a-f]+$/, "a subnet's id"))
    .min(1)
    .max(16)
    .describe("Where machines may be, in this order; one in each zone is best."),
  securityGroups: z
    .array(z.string().regex(/^sg-[0-9a-f]+$/, "a security group's id"))
    .min(1)
    .max(5)
    .describe("Their security groups. None of them may let anything in; `mayfly doctor` looks."),
  types: z
    .array(
      z.union([z.string().regex(/^[a-z0-9-]+(\.[a-z0-9-]+)?$/, "a family or a type"), ownType]),
    )
    .min(1)
    .max(50)
    .default(["c7i", "c6i", "c5", "m5"])
    .describe(
      "Families (c7i: each size of it), types (c5.metal), or types with their size and price. The cheapest that a job fits in is tried first.",
    ),
  market: z
    .enum(["spot-first", "spot", "on-demand"])
    .default("spot-first")
    .describe("How machines are bought; spot-first: on demand where there is no spot."),
  image: z
    .string()
    .min(1)
    .max(1_000)
    // Debian publishes its images from this account.
    .default("136693071363/debian-13-{architecture}-*")
    .describe(
      "The image of pools that name none: ami-ID, OWNER/NAME (the newest; * may stand in NAME), or ssm:PARAMETER. {architecture} stands for amd64 or arm64.",
    ),
  diskGb: z
    .number()
    .int()
    .min(1)
    .max(16_384)
    .default(20)
    .describe("The least that a machine's disk has; a pool's size may ask for more."),
  kmsKey: z
    .string()
    .min(1)
    .max(2_048)
    .optional()
    .describe("The key its disk is encrypted with. Default: the account's own for EBS."),
  instanceProfile: z
    .string()
    .regex(/^[\w+=,.@-]{1,128}$/, "an instance profile's name")
    .optional()
    .describe("The role machines have; every job can use it. Default: none."),
  publicAddress: z
    .boolean()
    .optional()
    .describe("Whether a machine gets a public IPv4 address. Default: as its subnet says."),
  claimBy: z
    .enum(["user-data", "parameter"])
    .default("user-data")
    .describe(
      "How a machine gets its one-time claim; parameter: from Parameter Store, which needs an instanceProfile.",
    ),
  runsPerSecond: z.number().min(0.1).max(1_000).default(2).describe("RunInstances a second."),
  readsPerSecond: z.number().min(0.1).max(1_000).default(5).describe("Describing calls a second."),
  endsPerSecond: z.number().min(0.1).max(1_000).default(1).describe("TerminateInstances a second."),
  accessKey: z
    .strictObject({
      id: secret.describe("The access key's id."),
      secret: secret.describe("The secret access key."),
    })
    .optional()
    .describe("Credentials. Default: what AWS's SDK finds, such as the role of this host."),
  identityCertificate: secret
    .optional()
    .describe(
      "AWS's RSA certificate for the identity documents of this region, PEM; several may follow one another. Default: the key that AWS published, where Mayfly knows it.",
    ),
  endpoint: z.url().optional().describe("Another address of EC2's and SSM's API, for tests."),
});
export type Ec2Options = z.infer<typeof ec2Options>;
