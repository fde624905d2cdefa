import { conformance } from "../conformance.ts";
import { qemuOptions } from "./options.ts";
import { imageForTests, noImage } from "./testing.ts";

const image = await imageForTests();
const skip = image === null ? noImage : false;

conformance({
  name: "qemu, booting",
  module: new URL("qemu.ts", import.meta.url).href,
  options: qemuOptions.parse({ image: image ?? undefined, snapshot: false, cpuPressureMax: 100 }),
  skip,
});
