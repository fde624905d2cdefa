/*
 * A manager in a process of its own, so that a test can kill it at any moment:
 *   node test/guest-manager.ts FOLDER
 * Over IPC: {submit}, {claim}, {job} and {log} each give one answer.
 */
import type { Submission } from "../src/fleet/api.ts";
import { Manager } from "./guests.ts";

export type Question =
  | { readonly submit: Submission }
  | { readonly claim: true }
  | { readonly job: string }
  | { readonly log: string };

const manager = await Manager.open(process.argv[2] ?? ".");

process.on("message", (question: Question) => {
  void answer(question).then((value) => process.send?.(value));
});
process.on("disconnect", () => process.exit(0));
process.send?.("ready");

async function answer(question: Question): Promise<unknown> {
  if ("submit" in question) return manager.native.submit(question.submit);
  if ("claim" in question) return manager.claimRunner();
  if ("job" in question) return manager.job(question.job);
  const frames = await manager.log(question.log);
  return frames.map((frame) => ({ ...frame, bytes: Buffer.from(frame.bytes).toString("base64") }));
}
