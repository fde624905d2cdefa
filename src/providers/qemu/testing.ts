import { execFile } from "node:child_process";
import { homedir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { hostArchitecture } from "../local.ts";
import { qemuBinary } from "./arguments.ts";
import { findImage } from "./image/images.ts";
import type { StoredImage } from "./image/manifest.ts";

/** Where images that tests boot are kept from one run to the next. */
export const testImages =
  process.env["MAYFLY_TEST_IMAGES"] ?? join(homedir(), ".cache", "mayfly-test", "images");

/** The image that tests boot, or why there is none to boot. */
export async function imageForTests(): Promise<StoredImage | string> {
  const architecture = hostArchitecture();
  if (process.platform !== "linux" || architecture === null) return "machines need Linux";
  const tool = qemuBinary(architecture);
  try {
    await promisify(execFile)(tool, ["--version"]);
  } catch {
    return `${tool} is not installed`;
  }
  return findImage(testImages, "minimal", architecture).catch((error: Error) => error.message);
}
