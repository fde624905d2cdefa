/** The kinds of fact. A job's or a machine's history is its facts read aloud. */
export const factKinds = [
  "seen",
  "placed",
  "refused",
  "claimed",
  "asked",
  "up",
  "started",
  "ended",
  "gone",
  "failed",
  "swept",
  "noted",
] as const;
export type FactKind = (typeof factKinds)[number];

export type SubjectKind = "job" | "runner" | "pool" | "provider";

/** One line of the append-only history. */
export interface Fact {
  readonly id: number;
  readonly at: number;
  readonly subjectKind: SubjectKind;
  readonly subject: string;
  readonly kind: FactKind;
  /** A plain sentence: what was decided and why. */
  readonly reason: string;
}
