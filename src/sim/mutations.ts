/** One mistake, as an edit of the source: `find` stands exactly once in the file. */
export interface Edit {
  /** Below `src`. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Mutation {
  readonly about: string;
  /** The seed to begin with, when those before it do not show the mistake; 0 unless said. */
  readonly from?: number;
  readonly edits: readonly Edit[];
}

/**
 * Mistakes that somebody could make in the fleet, each of which the simulator must notice. What it
 * does not notice, it does not guard.
 */
export const mutations: Readonly<Record<string, Mutation>> = {
  "no-claim": {
    about: "machines get another name than their claim",
    edits: [
      {
        file: "fleet/steps.ts",
        find: "const spec = { name, size,",
        replace: "const spec = { name: `${name}x`, size,",
      },
    ],
  },
  "no-boot-deadline": {
    about: "a machine that never comes up is waited for",
    edits: [
      {
        file: "domain/lifecycle.ts",
        find: "bootSeconds + newsMs / 1000",
        replace: "bootSeconds * 10_000 + newsMs / 1000",
      },
    ],
  },
  "no-time-for-news": {
    about: "a machine is given up before the forge could show it",
    edits: [{ file: "domain/lifecycle.ts", find: "+ newsMs / 1000", replace: "+ 0 * newsMs" }],
  },
  "ignore-busy": {
    about: "a runner that its forge calls busy is ended all the same",
    from: 140,
    edits: [{ file: "fleet/steps.ts", find: `if (removed === "busy") {`, replace: "if (false) {" }],
  },
  "no-deregistration": {
    about: "a machine is ended without telling the forge first",
    from: 50,
    edits: [
      {
        file: "fleet/steps.ts",
        find: `if (runner.state !== "started") {`,
        replace: "if (false) {",
      },
    ],
  },
  "refused-means-absent": {
    about: "a second request's refusal counts as if the first had made nothing",
    from: 180,
    edits: [{ file: "fleet/steps.ts", find: " || !isFirst) {", replace: ") {" }],
  },
  "one-sighting": {
    about: "what one list does not show counts as gone",
    edits: [
      {
        file: "store/sightings.ts",
        find: "times >= 2 && tx.now - firstAt >= minAgeMs",
        replace: "times >= 1 || tx.now - firstAt >= minAgeMs",
      },
    ],
  },
  "answer-first": {
    about: "an event is answered before it is stored",
    edits: [
      {
        file: "fleet/intake.ts",
        find: "return this.#batch.add({\n      placed: this.#place(forge, events.sightings),\n      note: events.note,\n    });",
        replace:
          'void this.#batch.add({ placed: this.#place(forge, events.sightings), note: "" }).catch(() => {}); return { jobs: [], repeated: false, note: "" };',
      },
    ],
  },
  "ending-is-gone": {
    about: "a machine that is still ending counts as gone",
    edits: [
      {
        file: "fleet/steps.ts",
        find: `if (outcome === "ending") return`,
        replace: `if (outcome !== outcome) return`,
      },
    ],
  },
  "no-destroy": {
    about: "machines are left to themselves",
    edits: [
      {
        file: "fleet/steps.ts",
        find: "try {\n      outcome = await calls.destroy(runner.name, signal);",
        replace: 'try {\n      outcome = "gone";',
      },
    ],
  },
  "no-maximum": {
    about: "a pool's maximum is not looked at",
    edits: [
      {
        file: "store/runners.ts",
        find: "const room = max - (booting + idle + busy + ending);",
        replace: "const room = max + (booting + idle + busy + ending);",
      },
      {
        file: "fleet/reconciler.ts",
        find: "pool: this.pool,\n      now,",
        replace: "pool: { ...this.pool, max: this.pool.max * 3 },\n      now,",
      },
    ],
  },
  "no-trust": {
    about: "a stranger's job goes to any pool whose labels fit",
    edits: [
      { file: "domain/matching.ts", find: "objectionToTrust(pool, job.trust) ??", replace: "" },
    ],
  },
  backwards: {
    about: "a late event takes a job back to an earlier state",
    edits: [
      {
        file: "domain/lifecycle.ts",
        find: "state: isFurther ? sighting.state : known.state",
        replace: "state: isFurther || true ? sighting.state : known.state",
      },
    ],
  },
  "events-only": {
    about: "a job that the poll no longer shows is not asked about",
    edits: [
      {
        file: "fleet/poll.ts",
        find: "if (forge.find === undefined) return;",
        replace: "if (forge !== undefined) return;",
      },
    ],
  },
  "no-poll": {
    about: "the forge is never asked what waits",
    edits: [
      {
        file: "fleet/poll.ts",
        find: "await intake.record(sightings.slice(from, from + sightingsAtOnce));",
        replace: "",
      },
    ],
  },
  "keep-strays": {
    about: "machines that nobody claims are left alone",
    from: 70,
    edits: [
      {
        file: "fleet/sweep.ts",
        find: "for (const name of again.strays)",
        replace: "for (const name of again.strays.slice(again.strays.length))",
      },
    ],
  },
  "keep-registrations": {
    about: "a machine's registration is not removed with it",
    edits: [
      {
        file: "fleet/steps.ts",
        find: "return await within(clock, forgeCallMs, signal, (until) => forge.remove(runner.name, until));",
        replace: 'return "gone";',
      },
      {
        file: "fleet/sweep.ts",
        find: "for (const name of again) {",
        replace: "for (const name of []) {",
      },
    ],
  },
  "ignore-exit": {
    about: "a machine whose program is over is kept",
    from: 70,
    edits: [
      {
        file: "fleet/sweep.ts",
        find: "for (const name of again.exited) {",
        replace: "for (const name of []) {",
      },
    ],
  },
  "ignore-missing": {
    about: "a machine that was taken back counts as alive",
    from: 30,
    edits: [
      {
        file: "fleet/sweep.ts",
        find: "for (const name of again.missing) {",
        replace: "for (const name of []) {",
      },
    ],
  },
  "endless-back-off": {
    about: "a provider that failed often is not asked again for days",
    edits: [
      {
        file: "fleet/calls.ts",
        find: "Math.min(failures - 1, 8), 10 * minuteMs)",
        replace: "Math.min(failures + 9, 80), 10_000 * minuteMs)",
      },
    ],
  },
  miscount: {
    about: "machines that are being removed are not counted",
    edits: [{ file: "store/tallies.ts", find: `ended: "ending",`, replace: "ended: null," }],
  },
  "cost-from-answer": {
    about: "a machine costs from the provider's answer on, if there was one",
    edits: [
      {
        file: "domain/runner.ts",
        find: "return bornAt === null ? 0 : cost(price, bornAt, until);",
        replace:
          "const { askedAt } = arguments[0] as unknown as Runner; return bornAt === null || askedAt === null ? 0 : cost(price, askedAt, until);",
      },
    ],
  },
  "no-history": {
    about: "a claim leaves no word of why",
    edits: [
      {
        file: "store/runners.ts",
        find: `kind: "claimed" as const,`,
        replace: `kind: "failed" as const,`,
      },
    ],
  },
  "keep-idle": {
    about: "idle machines are never let go",
    edits: [
      {
        file: "domain/planner.ts",
        find: "if (count <= 0 || now - since < idleForSeconds * 1000) continue;",
        replace: "if (count <= 0 || now > 0) continue;",
      },
    ],
  },
  "forgotten-step": {
    about: "a runner that ended is not looked at again",
    edits: [
      {
        file: "store/runners.ts",
        find: `due_at: to === "gone" ? null`,
        replace: `due_at: to === "gone" || to === "ended" ? null`,
      },
    ],
  },
};
