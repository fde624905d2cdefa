import { forgeConformance } from "../conformance.ts";
import { openWorld } from "./fake/world.ts";

for (const as of ["token", "app"] as const) {
  forgeConformance({
    name: `GitHub by ${as}`,
    open: () => openWorld({ now: Date.now, as }),
    labels: ["self-hosted", "linux", "x64"],
    signatureHeader: "x-hub-signature-256",
    matches: [
      [["self-hosted"], ["self-hosted", "linux"], true],
      [["Self-Hosted", "LINUX"], ["self-hosted", "linux"], true],
      [["self-hosted", "arm64"], ["self-hosted", "linux"], false],
      [["ubuntu-latest"], ["self-hosted"], false],
    ],
  });
}
