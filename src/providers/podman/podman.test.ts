import { conformance } from "../conformance.ts";
import { podmanOptions } from "./options.ts";

conformance({
  name: "podman",
  module: new URL("podman.ts", import.meta.url).href,
  options: podmanOptions.parse({}),
});
