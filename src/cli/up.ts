import type { Config } from "../config/config.ts";
import { secretsWithin } from "../config/secrets.ts";
import { parseListen } from "../config/text.ts";
import { excess } from "../domain/capacity.ts";
import { MayflyError } from "../domain/errors.ts";
import { quote } from "../domain/words.ts";
import { descriptorWriter, openLog } from "../web/log.ts";
import { sizeText } from "../web/words.ts";
import { brokerText } from "./broker-check.ts";
import { Client } from "./client.ts";
import { hasRun, prepareExample, runExample, type Example } from "./example.ts";
import { exit } from "./exit.ts";
import { version } from "./places.ts";
import type { CommonFlags } from "./program.ts";
import { readConfig, type PlaceFlags } from "./setting.ts";
import { note, painter, print, StatusLine } from "./terminal.ts";
import { localToken } from "./token.ts";
import { wire } from "./wire.ts";

export interface UpFlags extends CommonFlags, PlaceFlags {
  readonly listen?: string;
  readonly example?: boolean;
}

/** `mayfly up`: starts everything, says where to look, and stays until it is stopped. */
export async function run(flags: UpFlags): Promise<number> {
  const stop = stopOnSignals();
  const { config, example } = await chosen(flags);
  const paint = painter(process.stderr);
  for (const warning of config.warnings) note(`${paint("yellow", "note")}  ${warning}`);
  const token = config.token?.reveal() ?? localToken(config.stateFolder);
  const status = new StatusLine(process.stderr);
  const log = logOf(config, token, flags, status);
  try {
    const wired = await wire({
      config,
      token,
      log,
      version: version(),
      progress: (line) => note(paint("dim", line)),
      signal: stop,
    });
    await announce(config, wired.url, flags);
    for (const { name, size, maximum } of wired.fleet.pools) {
      const beyond = maximum === null ? null : excess(size, maximum);
      if (beyond === null) continue;
      log.warn({ pool: name }, `no job will run in this pool: ${beyond}; give it another \`size\``);
    }
    if (example !== null && !stop.aborted) {
      const client = new Client({ server: wired.url }, { MAYFLY_TOKEN: token });
      void runExample(client, example, config.stateFolder, status);
    }
    await aborted(stop);
    await wired.stop();
  } catch (error) {
    // To be stopped while it starts is no failure.
    if (!stop.aborted) throw error;
  }
  return exit.ok;
}

/** The configuration with what the flags say in its place, and the example if it is to be run. */
async function chosen(flags: UpFlags): Promise<{ config: Config; example: Example | null }> {
  const read = await readConfig(flags);
  const config = flags.listen === undefined ? read : { ...read, listen: address(flags.listen) };
  const isFirst = config.file === null && !hasRun(config.stateFolder);
  return (flags.example ?? isFirst) ? prepareExample(config) : { config, example: null };
}

function address(text: string): Config["listen"] {
  const listen = parseListen(text);
  if (listen !== null) return listen;
  throw new MayflyError("invalid", `${quote(text)} is no address to listen on`, {
    where: "--listen",
    hint: "Write it like 127.0.0.1:8420, or :0 for any port.",
  });
}

/** On a terminal, lines for a person; in a pipe or a service's journal, JSON. */
function logOf(
  config: Config,
  token: string,
  flags: UpFlags,
  status: StatusLine,
): ReturnType<typeof openLog> {
  const secrets = secretsWithin(config).map(([, secret]) => secret.reveal());
  const paint = painter(process.stderr);
  const write = descriptorWriter(process.stderr.fd);
  return openLog({
    level: flags.debug ? "debug" : "info",
    format: process.stderr.isTTY ? "plain" : "json",
    colours: paint("red", "") !== "",
    secrets: [token, ...secrets],
    write: (line) => {
      status.clear();
      write(line);
    },
  });
}

async function announce(config: Config, url: string, flags: UpFlags): Promise<void> {
  const { file, stateFolder, pools, providers, forges } = config;
  if (flags.json) {
    const names = (parts: readonly { name: string }[]) => parts.map(({ name }) => name);
    const held = { pools: names(pools), providers: names(providers), forges: names(forges) };
    return print(JSON.stringify({ url, stateFolder, configuration: file, ...held }));
  }
  const paint = painter(process.stdout);
  await print(`${paint("bold", "mayfly")}   ${version()} at ${paint("cyan", config.url ?? url)}`);
  for (const { name, provider, size, max } of pools) {
    const machines = `up to ${max} at once of ${sizeText(size)}, by ${provider}`;
    await print(`pool     ${name}: ${machines}`);
  }
  if (config.broker !== null) await print(`broker   ${brokerText(config.broker)}`);
  await print(`state    ${stateFolder}`);
  await print(`config   ${file ?? "none, so every default: see docs/configuration.md"}`);
  await print(
    paint("dim", "stop     with Ctrl-C; machines go on, and the next start finds them again"),
  );
}

/** What a stop that hangs may take before we leave all the same. */
const stopMs = 30_000;

/** Aborts at the first SIGINT, SIGTERM or SIGHUP; the second ends the process at once. */
function stopOnSignals(): AbortSignal {
  const stop = new AbortController();
  const onSignal = (): void => {
    if (stop.signal.aborted) process.exit(exit.interrupted);
    note("stopping; once more to leave at once");
    stop.abort();
    setTimeout(() => {
      note("it takes too long; leaving");
      process.exit(exit.temporary);
    }, stopMs).unref();
  };
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal).on("SIGHUP", onSignal);
  return stop.signal;
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
