/**
 * Deals `room` out to the classes one each in turn, the first the longest waiting, so that a burst
 * of one class cannot starve the others. Counted by rounds instead of dealt one by one.
 */
export function shareInTurn(wants: readonly number[], room: number): number[] {
  let rounds = 0;
  let left = room;
  let sharing = wants.length;
  for (const want of wants.toSorted((a, b) => a - b)) {
    const more = Math.min(want - rounds, Math.floor(left / sharing));
    rounds += more;
    left -= more * sharing;
    if (rounds < want) break;
    sharing--;
  }
  return wants.map((want) => {
    if (want <= rounds) return want;
    return left-- > 0 ? rounds + 1 : rounds;
  });
}
