/** Lower case without look-alikes: names are read aloud and typed. */
const letters = "abcdefghjkmnpqrstuvwxyz23456789";
const randomLetters = 8;

/** `length` letters from `chance`, each uniform. */
export function randomWord(chance: () => number, length = randomLetters): string {
  let word = "";
  for (let i = 0; i < length; i++) word += letters[Math.floor(chance() * letters.length)];
  return word;
}

/**
 * A new runner's name. Its machine and its registration bear it too: the prefix tells ours from
 * others', the delimiter `pool-1` from `pool-11`. At most 8 + 31 + 8 letters and two dashes.
 */
export function runnerName(installation: string, pool: string, chance: () => number): string {
  return `${installation}-${pool}-${randomWord(chance)}`;
}
