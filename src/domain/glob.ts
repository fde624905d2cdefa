/**
 * Whether all of `text` matches `pattern`, in which `*` stands for any characters or none and
 * everything else for itself; case is ignored. Patterns and labels both come from outside, so this
 * is no regular expression: it takes at most |pattern| x |text| steps.
 */
export function matchesGlob(pattern: string, text: string): boolean {
  const wanted = pattern.toLowerCase();
  const given = text.toLowerCase();
  let at = 0;
  let next = 0;
  // Where to resume when a later part does not match: after the last star, one character further.
  let star = -1;
  let resume = 0;
  while (at < given.length) {
    if (wanted[next] === "*") {
      star = next++;
      resume = at;
    } else if (wanted[next] === given[at]) {
      next++;
      at++;
    } else if (star >= 0) {
      next = star + 1;
      at = ++resume;
    } else {
      return false;
    }
  }
  while (wanted[next] === "*") next++;
  return next === wanted.length;
}
