import type { Policy } from "../policy.ts";
import { arc } from "./arc.ts";
import { garm } from "./garm.ts";
import { terraformEphemeral, terraformReused } from "./terraform-aws.ts";
import { woodpecker } from "./woodpecker.ts";

/** How others scale, as far as we understand their sources: models to compare with. */
export const others: readonly Policy[] = [
  garm,
  arc,
  terraformEphemeral,
  terraformReused,
  woodpecker,
];
