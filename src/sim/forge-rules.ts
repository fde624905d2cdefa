import {
  subset,
  subsetIgnoringCase,
  subsetNonEmpty,
  type LabelRule,
} from "../domain/label-rules.ts";

/** What tells one forge's scheduling from another's. */
export interface ForgeRule {
  readonly name: string;
  readonly match: LabelRule;
  /** From a runner's and a job's being free until the forge brings them together, ms at most. */
  readonly assignsWithinMs: number;
  /** How long after its runner's death the forge notices. */
  readonly noticesAfterMs: number;
  /** What becomes of a job whose runner died: it fails, or waits again as another attempt. */
  readonly lostJob: "fails" | "requeued";
  /** Whether the poll still shows how a job ended, and for how long after. */
  readonly showsEndedForMs: number;
}

export const forgeRules: readonly ForgeRule[] = [
  {
    name: "github",
    match: subsetIgnoringCase,
    assignsWithinMs: 3_000,
    noticesAfterMs: 120_000,
    lostJob: "fails",
    showsEndedForMs: 0,
  },
  {
    name: "gitea",
    match: subset,
    assignsWithinMs: 2_000,
    noticesAfterMs: 60_000,
    lostJob: "fails",
    showsEndedForMs: 60_000,
  },
  {
    name: "forgejo",
    match: subsetNonEmpty,
    assignsWithinMs: 2_000,
    noticesAfterMs: 60_000,
    lostJob: "fails",
    showsEndedForMs: 0,
  },
  {
    name: "woodpecker",
    match: subset,
    assignsWithinMs: 1_000,
    noticesAfterMs: 30_000,
    lostJob: "requeued",
    showsEndedForMs: 0,
  },
];
