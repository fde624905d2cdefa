import { writeSync } from "node:fs";
import pino from "pino";
import type { Log } from "../fleet/log.ts";

/*
 * The operator's log: one line a decision. JSON lines for machines; on a terminal, plain lines that
 * a person reads. Lines are written at once, so that none is lost in a crash.
 */

export type LogLevel = "debug" | "info" | "warn";

export interface LogOptions {
  readonly level: LogLevel;
  /** JSON lines, or lines for a person. */
  readonly format: "json" | "plain";
  /** Whether plain lines may use colours. */
  readonly colours: boolean;
  /** Values that must never be seen, wherever they turn up in a line. */
  readonly secrets: readonly string[];
  /** Takes whole lines, each with its end. */
  readonly write: (line: string) => void;
}

/** Fields whose values are secrets by their name. */
const secretNames = ["token", "authorization", "password", "secret", "claim", "session", "cookie"];

/** Shorter ones would blot out innocent text, and guard nothing anyway. */
const secretLengthMin = 8;

export function openLog(
  options: LogOptions,
): Log & { debug(fields: object, message: string): void } {
  const hide = hider(options.secrets);
  return pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: {
        paths: secretNames.flatMap((name) => [name, `*.${name}`, `headers.${name}`]),
        censor: "[secret]",
      },
    },
    {
      write: (line: string) =>
        options.write(hide(options.format === "json" ? line : plainLine(line, options.colours))),
    },
  );
}

/** Writes to a descriptor, also when the pipe behind it is full for the moment. */
export function descriptorWriter(descriptor: number): (line: string) => void {
  return (line) => {
    let rest = Buffer.from(line);
    for (let tries = 0; rest.length > 0 && tries < writeTriesMax;) {
      try {
        rest = rest.subarray(writeSync(descriptor, rest));
      } catch (error) {
        // A reader that is gone or hangs must not end or stop the server: the line is lost.
        if ((error as NodeJS.ErrnoException).code !== "EAGAIN") return;
        tries += 1;
        Atomics.wait(sleeper, 0, 0, 1);
      }
    }
  };
}

const writeTriesMax = 100;
const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Replaces secrets as they are and as they stand in JSON. */
function hider(secrets: readonly string[]): (line: string) => string {
  const hidden = secrets
    .filter((secret) => secret.length >= secretLengthMin)
    .flatMap((secret) => [secret, JSON.stringify(secret).slice(1, -1)]);
  return (line) => hidden.reduce((text, secret) => text.replaceAll(secret, "[secret]"), line);
}

interface PlainFields {
  readonly level: string;
  readonly time: string;
  readonly msg?: string;
  readonly [field: string]: unknown;
}

const shades: Readonly<Record<string, number>> = { warn: 33, debug: 90 };

/** `13:05:09 asked for m-small-k2f9q  pool=small provider=box`, in UTC. */
function plainLine(line: string, colours: boolean): string {
  const { level, time, msg = "", ...fields } = JSON.parse(line) as PlainFields;
  const paint = (code: number, text: string): string =>
    colours ? `\x1b[${code}m${text}\x1b[0m` : text;
  const shade = shades[level];
  const message = printable(msg);
  const told = Object.entries(fields).map(
    ([name, value]) =>
      `${name}=${typeof value === "string" ? spaced(value) : JSON.stringify(value)}`,
  );
  const parts = [
    paint(90, time.slice(11, 19)),
    shade === undefined ? message : `${paint(shade, `${level}:`)} ${message}`,
    ...(told.length === 0 ? [] : [` ${paint(90, printable(told.join(" ")))}`]),
  ];
  return `${parts.join(" ")}\n`;
}

function spaced(value: string): string {
  return /[\s"=]/.test(value) || value === "" ? JSON.stringify(value) : value;
}

/** Text from outside must not paint on the operator's terminal, nor fake a line. */
function printable(text: string): string {
  return text.replaceAll(
    /[\p{Cc}\u2028\u2029]/gu,
    (sign) => `\\x${sign.codePointAt(0)?.toString(16).padStart(2, "0") ?? ""}`,
  );
}
