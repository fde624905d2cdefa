import { z } from "zod";
import { reachFault } from "./reach.ts";

/** The keys of a `qemu` provider in the configuration. Every one is optional. */
export const qemuOptions = z.strictObject({
  image: z
    .string()
    .optional()
    .describe("The image of pools that name none: its name, or the path of its folder."),
  accelerator: z
    .enum(["auto", "kvm", "tcg"])
    .default("auto")
    .describe("auto: KVM where a trial boot under it works, otherwise emulation, which is slow."),
  board: z
    .enum(["auto", "microvm", "q35"])
    .default("auto")
    .describe("The machine QEMU plays to x64 guests; auto takes microvm where its clock is sure."),
  scratch: z
    .enum(["dmcrypt", "gocryptfs", "tmpfs", "plain"])
    .default("dmcrypt")
    .describe("Where a machine's writes go: a disk under a key of its own, memory, a plain disk."),
  snapshot: z
    .boolean()
    .default(true)
    .describe("Whether machines are restored from the state of one that has booted."),
  outlive: z
    .boolean()
    .default(true)
    .describe("Whether machines go on when Mayfly ends; false: they end with it."),
  reach: z
    .array(
      z.string().superRefine((entry, context) => {
        const fault = reachFault(entry);
        if (fault !== null) context.addIssue({ code: "custom", message: fault });
      }),
    )
    .max(64)
    .default([])
    .describe(
      "What strangers' machines with a network reach beside the public internet: ADDRESS or ADDRESS:PORT.",
    ),
  bootSeconds: z
    .number()
    .min(1)
    .max(3600)
    .default(120)
    .describe("A machine that is not ready after this is ended."),
  reserveMemoryMb: z
    .number()
    .min(0)
    .default(512)
    .describe("No machine is made that would leave the host less free memory than this."),
  cpuPressureMax: z
    .number()
    .min(0)
    .max(100)
    .default(90)
    .describe(
      "No further machine is made while the host's processors are wanted more than this, in percent.",
    ),
});
export type QemuOptions = z.infer<typeof qemuOptions>;
