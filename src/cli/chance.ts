import { randomBytes, randomInt } from "node:crypto";

/** Uniform in [0, 1), from the system's own source: names and retries need no less. */
export const chance = (): number => randomInt(2 ** 47) / 2 ** 47;

/** A secret nobody guesses: 256 bits in hexadecimal digits. */
export const newSecret = (): string => randomBytes(32).toString("hex");
