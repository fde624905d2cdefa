import { mayfly } from "./mayfly.ts";
import type { Policy } from "./policy.ts";

/** Every policy that a trace can be run under, Mayfly's own first. */
export const policies: readonly Policy[] = [mayfly];
