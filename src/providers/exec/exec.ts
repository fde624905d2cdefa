import { ProviderError } from "../../domain/errors.ts";
import type { Price } from "../../domain/money.ts";
import type { Program } from "../../domain/program.ts";
import type { Size } from "../../domain/size.ts";
import { untilAborted } from "../local.ts";
import { isOurs, refuseName, refuseUnfit } from "../names.ts";
import { refuseProgram } from "../program.ts";
import type { Capabilities, Check, Machine, MachineSpec } from "../provider.ts";
import type { Provider, ProviderContext } from "../provider.ts";
import type { ExecOptions } from "./options.ts";
import * as protocol from "./protocol.ts";
import { Session } from "./session.ts";

const helloMs = 30_000;
const backOffFirstMs = 500;
const backOffMaxMs = 60_000;
/** Lines of the program's stderr that are passed on in a minute. */
const logLinesMax = 200;

/**
 * Starts the program and shakes hands. Throws `unreachable` when it ends or does not answer, and
 * `invalid` when it speaks another version.
 */
export async function open(options: ExecOptions, context: ProviderContext): Promise<Provider> {
  const program = new ExecProgram(options, context);
  try {
    const hello = await program.greet(new AbortController().signal);
    return new ExecProvider(program, hello, context);
  } catch (error) {
    await program.close();
    throw error;
  }
}

/** Any program that makes machines, driven by lines of JSON on its stdin and stdout. */
class ExecProvider implements Provider {
  readonly name: string;
  readonly #program: ExecProgram;
  readonly #hello: protocol.Hello;
  readonly #installation: string;

  constructor(program: ExecProgram, hello: protocol.Hello, context: ProviderContext) {
    this.name = context.name;
    this.#program = program;
    this.#hello = hello;
    this.#installation = context.installation;
  }

  async create(spec: MachineSpec, program: Program, signal: AbortSignal): Promise<Machine> {
    refuseName(this.#installation, spec.name);
    refuseUnfit(spec, this.lends());
    refuseProgram(program);
    const answer = await this.#program.ask("create", { spec, program }, signal);
    const machine = protocol.understood("create", protocol.machineSchema, answer);
    if (machine.name === spec.name) return machine;
    throw new ProviderError("unreachable", `asked for ${spec.name}, it made another machine`);
  }

  async list(signal: AbortSignal): Promise<readonly Machine[]> {
    const answer = await this.#program.ask("list", {}, signal);
    const machines = protocol.understood("list", protocol.machinesSchema, answer);
    return machines.filter(({ name }) => isOurs(this.#installation, name));
  }

  async destroy(name: string, signal: AbortSignal): Promise<"gone" | "ending"> {
    refuseName(this.#installation, name);
    try {
      const answer = await this.#program.ask("destroy", { name }, signal);
      return protocol.understood("destroy", protocol.destroyedSchema, answer);
    } catch (error) {
      if (error instanceof ProviderError && error.kind === "gone") return "gone";
      throw error;
    }
  }

  price(size: Size): Price {
    const { price } = this.#hello;
    const forCpus = price.microUsdPerCpuHour * size.cpu;
    const forMemory = (price.microUsdPerMemoryGbHour * size.memoryMb) / 1024;
    const { quantumSeconds, minimumSeconds } = price;
    const microUsdPerHour = Math.ceil(price.microUsdPerHour + forCpus + forMemory);
    return { microUsdPerHour, quantumSeconds, minimumSeconds };
  }

  lends(): Capabilities {
    return this.#hello.capabilities;
  }

  async check(signal: AbortSignal): Promise<readonly Check[]> {
    const answer = await this.#program.ask("check", {}, signal);
    const checks = protocol.understood("check", protocol.checksSchema, answer);
    return [{ name: "program", ok: true, detail: "it runs and answers", mend: null }, ...checks];
  }

  async prepare(): Promise<void> {}

  close(): Promise<void> {
    return this.#program.close();
  }
}

/** The program through all its lives: started again when it died, later and later if it keeps to that. */
class ExecProgram {
  readonly #options: ExecOptions;
  readonly #context: ProviderContext;
  #session: Session | null = null;
  #greeting: Promise<protocol.Hello> | null = null;
  #deaths = 0;
  #retryAt = Number.NEGATIVE_INFINITY;
  #closed = false;
  #logged = { since: 0, lines: 0 };

  constructor(options: ExecOptions, context: ProviderContext) {
    this.#options = options;
    this.#context = context;
  }

  /** The program's hello, of this life or a new one. */
  async greet(signal: AbortSignal): Promise<protocol.Hello> {
    if (this.#session === null || this.#session.over !== null) {
      this.#session = this.#start();
      this.#greeting = this.#shakeHands(this.#session);
      this.#greeting.catch(() => {});
    }
    return untilAborted(signal, this.#greeting!);
  }

  async ask(method: string, params: unknown, signal: AbortSignal): Promise<unknown> {
    if (signal.aborted) throw new ProviderError("unreachable", "the call was given up");
    await this.greet(signal);
    const limit = AbortSignal.timeout(this.#options.requestSeconds * 1000);
    const answer = await this.#session!.ask(method, params, AbortSignal.any([signal, limit]));
    this.#deaths = 0;
    return answer;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#session?.close();
  }

  #start(): Session {
    if (this.#closed) throw new ProviderError("unreachable", "the provider is closed");
    const waitMs = this.#retryAt - this.#context.now();
    if (waitMs > 0) {
      const why = `${this.#options.command[0]} keeps ending; it is started again in a while`;
      throw new ProviderError("unreachable", why, Math.ceil(waitMs));
    }
    const { command, environment, secrets } = this.#options;
    const kept = ["PATH", "HOME", "LANG"].map((name) => [name, process.env[name]] as const);
    const revealed = Object.entries(secrets).map(
      ([name, value]) => [name, value.reveal()] as const,
    );
    return new Session({
      command,
      environment: { ...Object.fromEntries(kept), ...environment, ...Object.fromEntries(revealed) },
      folder: this.#context.folder,
      onLog: (line) => this.#log(line),
      onOver: (why) => this.#died(why),
    });
  }

  async #shakeHands(session: Session): Promise<protocol.Hello> {
    const { name, installation, folder, guestFolder } = this.#context;
    const versions = { protocol: protocol.protocolVersion };
    const params = { ...versions, name, installation, folder, guestFolder };
    const answer = await session.ask("hello", params, AbortSignal.timeout(helloMs));
    const hello = protocol.understood("hello", protocol.helloSchema, answer);
    if (hello.protocol === protocol.protocolVersion) return hello;
    const why = `it speaks protocol ${hello.protocol}, and Mayfly ${protocol.protocolVersion}`;
    throw new ProviderError("invalid", `${this.#options.command[0]}: ${why}`);
  }

  #died(why: string): void {
    if (this.#closed) return;
    const waitMs = Math.min(backOffMaxMs, backOffFirstMs * 2 ** this.#deaths);
    this.#deaths += 1;
    this.#retryAt = this.#context.now() + waitMs;
    this.#context.log.warn({ provider: this.#context.name, restartInMs: waitMs }, why);
  }

  #log(line: string): void {
    const now = this.#context.now();
    if (now - this.#logged.since > 60_000) this.#logged = { since: now, lines: 0 };
    this.#logged.lines += 1;
    if (this.#logged.lines <= logLinesMax) {
      this.#context.log.info({ provider: this.#context.name }, line);
    }
  }
}
