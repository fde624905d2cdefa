/**
 * How far a job's code is trusted. `trusted`: somebody with write access stands behind it. `fork`:
 * a stranger may have written it. A forge that cannot tell says `fork`.
 */
export type TrustClass = "trusted" | "fork";

export const trustClasses = ["trusted", "fork"] as const satisfies readonly TrustClass[];
