import assert from "node:assert/strict";
import { cp, open as openFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { conformance } from "../conformance.ts";
import { never } from "../conformance-world.ts";
import type { StoredImage } from "./image/manifest.ts";
import { imageForTests, processesOf, Stable } from "./testing.ts";
import { tryImage } from "./try-image.ts";

const image = await imageForTests();
const skip = typeof image === "string" ? image : false;
// Skipped tests aside, it is there.
const sound = image as StoredImage;
const stable = await Stable.make(image);
after(() => stable.close());

conformance({
  name: "qemu",
  module: new URL("qemu.ts", import.meta.url).href,
  options: stable.options,
  skip,
  leftovers: processesOf,
  speakSeconds: 8,
  open: (context) => stable.open(context),
});

describe("an image for machines", { skip, timeout: 600_000 }, () => {
  it("is tried by booting it", async () => {
    await tryImage(sound, never);
  });

  it("is refused when it does not boot, with what it said", async () => {
    const folder = join(stable.folder, "dead");
    await cp(sound.folder, folder, { recursive: true });
    await (await openFile(join(folder, "initramfs"), "w")).close();
    const tried = tryImage({ ...sound, folder }, never);
    await assert.rejects(tried, { kind: "invalid", message: /does not work.*panic/s });
  });

  it("is given up at once when told to", async () => {
    await assert.rejects(tryImage(sound, AbortSignal.abort()), { kind: "unreachable" });
  });
});
