import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { qemuMend } from "./run.ts";
import { StoredImages } from "./stored-image.ts";

/** Why tests with real guests are skipped. */
export const noImage = `no QEMU, or no image in MAYFLY_TEST_IMAGE; ${qemuMend}`;

/** The folder of the image that tests boot; null when there is none, or no QEMU to boot it. */
export async function imageForTests(): Promise<string | null> {
  const folder = process.env["MAYFLY_TEST_IMAGE"] ?? join("/var/tmp", "mayfly-test-image");
  const image = await StoredImages.describe(folder).catch(() => null);
  if (image === null) return null;
  const run = promisify(execFile);
  const works = await run("qemu-system-x86_64", ["--version"]).then(
    () => true,
    () => false,
  );
  return works ? folder : null;
}
