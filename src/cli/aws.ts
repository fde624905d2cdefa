import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../domain/errors.ts";
import { counted, listed } from "../domain/words.ts";
import { idleCosts } from "../providers/ec2/infrastructure/costs.ts";
import { Residents, type Resident } from "../providers/ec2/infrastructure/machines.ts";
import {
  changesBetween,
  StackDesk,
  type Stack,
  type StackEvent,
} from "../providers/ec2/infrastructure/stack.ts";
import {
  defaultStack,
  synthesise,
  type StackOptions,
} from "../providers/ec2/infrastructure/template.ts";
import { regionOf, nameOf, optionsFrom, type AwsFlags } from "./aws-flags.ts";
import { planLines } from "./aws-plan.ts";
import { snippet } from "./aws-snippet.ts";
import { exit } from "./exit.ts";
import { Terminal } from "./init/prompter.ts";
import { clean, note, painter, print, StatusLine } from "./terminal.ts";

/*
 * `mayfly aws`: what Mayfly needs at AWS, as one stack of CloudFormation: put up, looked at, taken
 * down.
 */

const deadlineMs = 20 * 60_000;
const pollMs = 2_000;

/** The source of the front's function. */
function handler(): string {
  const file = new URL("../providers/ec2/infrastructure/front-handler.cjs", import.meta.url);
  return readFileSync(file, "utf8");
}

/** `mayfly aws template`: prints it, for those who put stacks up in their own way. Asks nobody. */
export async function template(flags: AwsFlags): Promise<number> {
  await print(JSON.stringify(synthesise(optionsFrom(flags, defaultStack), handler()), null, 2));
  return exit.ok;
}

/** `mayfly aws up`: says what will be made and what it costs, asks, and makes it. */
export async function up(flags: AwsFlags): Promise<number> {
  // A slip of the fingers is told before anybody is asked.
  optionsFrom(flags, defaultStack);
  const desk = open(flags);
  try {
    const found = await desk.stacks.find();
    const options = optionsFrom(flags, found?.options ?? defaultStack);
    const wanted = synthesise(options, handler());
    const changes = changesBetween(found?.template ?? null, wanted);
    if (flags.dryRun === true && flags.json === true) {
      const { name, region } = desk;
      await print(JSON.stringify({ name, region, options, changes, idle: idleCosts(options) }));
      return exit.ok;
    }
    if (found === null || changes.length > 0) {
      const lines = planLines({ ...desk, isNew: found === null, changes, options });
      // Where the result is to be JSON, the plan is for the person beside it.
      for (const line of lines) await (flags.json === true ? note(line) : print(line));
    }
    if (flags.dryRun === true) return exit.ok;
    if (changes.length > 0) await agreed(flags, found === null ? "Put it up?" : "Change it?");
    const outcome = await desk.stacks.put(found, wanted, options);
    const stack = await desk.stacks.find();
    await showResult(flags, desk, outcome, stack, options);
    return exit.ok;
  } finally {
    desk.close();
  }
}

/** `mayfly aws down`: ends the machines in it, takes it away, and says what is left. */
export async function down(flags: AwsFlags): Promise<number> {
  const desk = open(flags);
  try {
    const found = await desk.stacks.find();
    if (found === null) {
      if (flags.json) await print(JSON.stringify({ name: desk.name, outcome: "absent", left: [] }));
      else await print(`There is no stack ${desk.name} in ${desk.region}: nothing to take down.`);
      return exit.ok;
    }
    const residents = await residentsOf(desk, found);
    const there = residents === null ? [] : await residents.list();
    showEnd(desk, found, there);
    if (flags.dryRun === true) {
      const { name, region } = desk;
      const plan = { name, region, status: found.status, machines: there };
      if (flags.json) await print(JSON.stringify(plan));
      return exit.ok;
    }
    refuseStrangers(there);
    await agreed(flags, "Take it down?");
    await residents?.end(there);
    residents?.close();
    const left = await takeDown(desk, found);
    if (flags.json) await print(JSON.stringify({ name: desk.name, outcome: "removed", left }));
    else
      await print(`${painter(process.stdout)("green", "✔")} ${desk.name} is gone; nothing is left`);
    return exit.ok;
  } finally {
    desk.close();
  }
}

/** `mayfly aws status`: how it stands, and what is in it. */
export async function status(flags: AwsFlags): Promise<number> {
  const desk = open(flags);
  try {
    const found = await desk.stacks.find();
    if (found === null) {
      if (flags.json) await print(JSON.stringify({ name: desk.name, status: null }));
      else await print(`There is no stack ${desk.name} in ${desk.region}; make it: mayfly aws up`);
      return exit.failed;
    }
    const residents = await residentsOf(desk, found);
    const machines = residents === null ? [] : await residents.list();
    residents?.close();
    const { name, region } = desk;
    const options = found.options ?? defaultStack;
    const changes = changesBetween(found.template, synthesise(options, handler()));
    if (flags.json) {
      const { status: state, outputs } = found;
      await print(
        JSON.stringify({ name, region, status: state, options, outputs, machines, changes }),
      );
      return exit.ok;
    }
    await print(`stack      ${name} in ${region}: ${found.status}`);
    for (const [key, value] of Object.entries(found.outputs)) {
      await print(`${key.padEnd(18)} ${clean(value)}`);
    }
    await print(
      `machines   ${machines.length === 0 ? "none" : listed(machines.map(residentText))}`,
    );
    if (changes.length > 0) {
      note(`This version would change ${counted(changes.length, "resource")}: mayfly aws up`);
    }
    return exit.ok;
  } finally {
    desk.close();
  }
}

interface Desk {
  readonly name: string;
  readonly region: string;
  readonly stacks: StackDesk;
  readonly signal: AbortSignal;
  close(): void;
}

function open(flags: AwsFlags): Desk {
  const [name, region] = [nameOf(flags), regionOf(flags, process.env)];
  const line = new StatusLine(process.stderr);
  const stop = new AbortController();
  const onSignal = (): void => stop.abort();
  process.once("SIGINT", onSignal);
  const { signal } = stop;
  const tell = (event: StackEvent): void => tellEvent(event, line);
  const stacks = new StackDesk({ ...timing(signal), region, name, tell });
  const close = (): void => {
    line.clear();
    stacks.close();
    process.off("SIGINT", onSignal);
  };
  return { name, region, stacks, signal, close };
}

function timing(signal: AbortSignal) {
  const wait = (ms: number, until: AbortSignal) => sleep(ms, undefined, { signal: until });
  return { now: () => Date.now(), sleep: wait, signal, deadlineMs, pollMs };
}

/** Ends of steps as lines, what is under way on the line that is written over. */
function tellEvent({ resource, type, status: state, reason }: StackEvent, line: StatusLine): void {
  const paint = painter(process.stderr);
  if (state.endsWith("_IN_PROGRESS")) {
    line.show(`${resource}: ${state.toLowerCase().replaceAll("_", " ")}`);
    return;
  }
  line.clear();
  const isBad = state.endsWith("_FAILED");
  const sign = isBad ? paint("red", "✘") : paint("green", "✔");
  const why = isBad && reason !== "" ? `: ${clean(reason)}` : "";
  note(
    `${sign} ${state.toLowerCase().replaceAll("_", " ").padEnd(16)} ${resource} (${type})${why}`,
  );
}

async function residentsOf(desk: Desk, found: Stack): Promise<Residents | null> {
  const network = found.outputs["Network"] ?? (await desk.stacks.resource(found, "Network"));
  if (network === null) return null;
  const installation = found.options?.installation ?? null;
  return new Residents({ ...timing(desk.signal), region: desk.region, network, installation });
}

function residentText({ id, name, state, isOurs }: Resident): string {
  return `${id}${name === "" ? "" : ` ${clean(name)}`} (${state}${isOurs ? "" : ", not ours"})`;
}

/** What somebody else started there is theirs to end; the network cannot go before. */
function refuseStrangers(there: readonly Resident[]): void {
  const strangers = there.filter(({ isOurs }) => !isOurs);
  if (strangers.length === 0) return;
  const names = listed(strangers.map(residentText));
  throw new MayflyError("conflict", `in its network are machines that are not ours: ${names}`, {
    hint: "End these yourself if they may go, then run it again. Nothing was taken down.",
  });
}

async function takeDown(desk: Desk, found: Stack): Promise<readonly string[]> {
  try {
    await desk.stacks.remove(found);
    return [];
  } catch (error) {
    const left = await desk.stacks.left(found).catch(() => []);
    if (left.length > 0) note(`left: ${left.join(", ")}`);
    throw error;
  }
}

async function agreed(flags: AwsFlags, question: string): Promise<void> {
  if (flags.yes === true) return;
  const prompter = new Terminal(process.stdin, process.stderr);
  const check = (answer: string) => (/^(y|yes|n|no)$/i.test(answer) ? null : "answer yes or no");
  const asked = { flag: "--yes", text: question, fallback: process.stdin.isTTY ? "no" : null };
  const answer = await prompter.ask({ ...asked, check }, undefined);
  if (/^y/i.test(answer)) return;
  throw new MayflyError("conflict", "nothing was changed");
}

function showEnd(desk: Desk, found: Stack, there: readonly Resident[]): void {
  const ours = there.filter(({ isOurs }) => isOurs);
  note(`stack      ${desk.name} in ${desk.region}: ${found.status}`);
  if (ours.length > 0) note(`machines   ${listed(ours.map(residentText))}: they are ended first`);
  if (found.options?.front != null) note("front      goes with its queue, and what waits in it");
}

async function showResult(
  flags: AwsFlags,
  { name, region }: Desk,
  outcome: "made" | "changed" | "unchanged",
  stack: Stack | null,
  options: StackOptions,
): Promise<void> {
  const outputs = stack?.outputs ?? {};
  const text = snippet({ name, region, options, outputs });
  if (flags.json) {
    await print(JSON.stringify({ name, region, outcome, outputs, config: text.config }));
    return;
  }
  const words = { made: "is up", changed: "is changed", unchanged: "is up: nothing to change" };
  await print(`${painter(process.stdout)("green", "✔")} ${name} ${words[outcome]}`);
  await print(`\nIn mayfly.yaml:\n\n${text.config}`);
  for (const [n, step] of text.steps.entries()) await print(`${n + 1}. ${step}`);
}
