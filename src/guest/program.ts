import { readFileSync } from "node:fs";
import type { Program } from "../domain/program.ts";
import { encodePairs } from "./wire.ts";

/** What a guest needs to know to begin its life. */
export interface GuestBirth {
  /** `unix:{guest}`, `http://host:port` or `https://host`. */
  readonly managerUrl: string;
  /** Its one-time claim. */
  readonly claim: string;
  /** How long a job may run. */
  readonly jobSeconds: number;
  /** How long it may live in all; a job is only taken while it still has all of its time. */
  readonly lifeSeconds: number;
}

const scripts = {
  "guest.pl": new URL("./guest.pl", import.meta.url),
  "Clock.pm": new URL("./Clock.pm", import.meta.url),
  "Command.pm": new URL("./Command.pm", import.meta.url),
  "Files.pm": new URL("./Files.pm", import.meta.url),
  "Line.pm": new URL("./Line.pm", import.meta.url),
  "Loop.pm": new URL("./Loop.pm", import.meta.url),
  "Output.pm": new URL("./Output.pm", import.meta.url),
  "Process.pm": new URL("./Process.pm", import.meta.url),
  "shell.pl": new URL("./shell.pl", import.meta.url),
  "Wire.pm": new URL("./Wire.pm", import.meta.url),
} as const;

/**
 * The program that runs one native job in a machine. The claim stands in a file that only its user
 * may read and that the guest removes; neither the arguments nor the environment hold it.
 */
export function guestProgram(birth: GuestBirth): Program {
  const { claim, jobSeconds, lifeSeconds } = birth;
  const born = encodePairs({ claim, job: String(jobSeconds), life: String(lifeSeconds) });
  return {
    files: [
      ...Object.entries(scripts).map(([path, url]) => ({
        path,
        mode: 0o644,
        content: readScript(url),
      })),
      { path: "claim", mode: 0o600, content: born },
    ],
    command: ["perl", "{program}/guest.pl", "{program}/claim"],
    environment: { MAYFLY_URL: birth.managerUrl },
    deadlineSeconds: lifeSeconds,
  };
}

const read = new Map<string, string>();
/** Indentation and comments on lines of their own: no machine reads them, and EC2 takes only 16 KiB. */
const notRead = /^[ \t]+(?:#.*)?|^#(?!!).*/gm;

function readScript(url: URL): string {
  let content = read.get(url.href);
  if (content === undefined) {
    content = readFileSync(url, "utf8").replace(notRead, "");
    read.set(url.href, content);
  }
  return content;
}
