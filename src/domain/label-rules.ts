/**
 * May a runner that offers `offered` take a job that asks for `asked`? Each forge has its own
 * answer; these are the ones there are.
 */
export type LabelRule = (asked: readonly string[], offered: readonly string[]) => boolean;

/** Gitea: every label asked for is offered, case counts; a job that asks for none takes any. */
export const subset: LabelRule = (asked, offered) => {
  const all = new Set(offered);
  return asked.every((label) => all.has(label));
};

/** GitHub: as `subset`, but case does not count. */
export const subsetIgnoringCase: LabelRule = (asked, offered) =>
  subset(asked.map(lowerCase), offered.map(lowerCase));

/** Forgejo: as `subset`, but a job that asks for nothing gets nothing. */
export const subsetNonEmpty: LabelRule = (asked, offered) =>
  asked.length > 0 && subset(asked, offered);

/** GitLab: as `subset`, but untagged jobs only go to a runner with `run_untagged`. */
export function gitlabTags(runUntagged: boolean): LabelRule {
  return runUntagged ? subset : subsetNonEmpty;
}

/** Jobs of no forge. */
export const native: LabelRule = subsetIgnoringCase;

function lowerCase(label: string): string {
  return label.toLowerCase();
}
