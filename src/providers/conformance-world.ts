import { randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Program } from "../domain/program.ts";
import type { MachineSpec, Provider, ProviderContext } from "./provider.ts";

export const never = new AbortController().signal;
/** For what must happen; a busy host takes ten times as long as another, and halts for seconds. */
const patienceMs = 100_000;

/**
 * What runs in the machines: it tells all it sees over the guests' socket and then does as bidden.
 * Each of its processes holds the socket open, so the socket's end means that all of them ended.
 */
const guestScript = String.raw`use strict;
use IO::Socket::UNIX;
$^F = 100; # keep the socket over an exec
my ($path, $machine, $deed, @args) = @ARGV;
my $socket = IO::Socket::UNIX->new(Peer => $path) or die "cannot connect to $path: $!\n";
$socket->autoflush(1);
sub say_hex { print $socket join(' ', shift, map { unpack 'H*', $_ } @_), "\n" }
sub show {
  my ($folder, $below) = @_;
  opendir(my $list, $folder) or die "$folder: $!\n";
  for my $name (sort grep { !/^\.\.?$/ } readdir $list) {
    my $file = "$folder/$name";
    if (-d $file) { show($file, "$below$name/"); next }
    open(my $in, '<', $file) or die "$file: $!\n";
    local $/;
    say_hex('file', "$below$name", sprintf('%o', (stat $file)[2] & 07777), scalar <$in>);
  }
}
say_hex('machine', $machine);
say_hex('arg', $_) for @args;
say_hex('env', $_, $ENV{$_}) for sort keys %ENV;
show($0 =~ m{^(.*)/[^/]*$}, '');
sub stay { sleep 1000 while 1 }
if ($deed eq 'tree') {
  fork or stay();
  if (!fork) { setpgrp; stay() }
  require POSIX;
  if (!fork) { POSIX::setsid(); stay() }
  if (!fork) { POSIX::setsid(); fork and exit; stay() }
  if (!fork) { POSIX::setsid(); fork and exit; %ENV = (); exec $^X, '-e', 'sleep 1000 while 1' }
}
print $socket "told\n";
exit $args[0] if $deed eq 'exit';
stay();
`;

/** What one machine told, and when all its processes were over. */
export class Voice {
  readonly args: string[] = [];
  readonly environment: Record<string, string> = {};
  readonly files: Record<string, { mode: string; content: string }> = {};
  readonly over: Promise<void>;

  constructor(socket: Socket) {
    this.over = new Promise((resolve) => socket.once("close", () => resolve()));
  }

  hear([kind, ...words]: string[]): void {
    const [first = "", second = "", third = ""] = words;
    if (kind === "arg") this.args.push(first);
    if (kind === "env") this.environment[first] = second;
    if (kind === "file") this.files[first] = { mode: second, content: third };
  }
}

/** A folder of state, a guests' socket, and the providers opened upon them, for one test. */
export class World {
  readonly installation = `t${randomBytes(4).toString("hex")}`;
  readonly #folder: string;
  readonly #open: (context: ProviderContext) => Promise<Provider>;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #voices = new Map<string, Voice[]>();
  readonly #providers: Provider[] = [];

  private constructor(folder: string, open: (context: ProviderContext) => Promise<Provider>) {
    this.#folder = folder;
    this.#open = open;
    this.#server = createServer((socket) => this.#listen(socket));
  }

  static async make(open: (context: ProviderContext) => Promise<Provider>): Promise<World> {
    const folder = await mkdtemp(join(tmpdir(), "mayfly-provider-"));
    const world = new World(folder, open);
    const { guestFolder } = world.context();
    await mkdir(guestFolder);
    await chmod(guestFolder, 0o755);
    const socket = join(guestFolder, "guest.sock");
    await new Promise<void>((resolve) => world.#server.listen(socket, resolve));
    await chmod(socket, 0o666);
    return world;
  }

  context(installation = this.installation): ProviderContext {
    return {
      name: "tested",
      installation,
      folder: join(this.#folder, "provider"),
      guestFolder: join(this.#folder, "guest"),
      stateFolder: this.#folder,
      now: () => Date.now(),
      log: { info: () => {}, warn: () => {} },
    };
  }

  /** Opens the provider as a fresh manager would. */
  async open(installation = this.installation): Promise<Provider> {
    const context = this.context(installation);
    await mkdir(context.folder, { recursive: true, mode: 0o700 });
    const provider = await this.#open(context);
    this.#providers.push(provider);
    return provider;
  }

  /** Closes one provider, twice, before the others. */
  async retire(provider: Provider): Promise<void> {
    this.#providers.splice(this.#providers.indexOf(provider), 1);
    await provider.close();
    await provider.close();
  }

  spec(suffix: string, provider: Provider): MachineSpec {
    const lends = provider.lends();
    const { cpu, memoryMb, diskGb } = lends.maximum;
    return {
      name: `${this.installation}-${suffix}`,
      size: {
        cpu: Math.min(1, cpu),
        memoryMb: Math.min(512, memoryMb),
        diskGb: Math.min(1, diskGb),
        gpu: 0,
        architecture: lends.architectures[0] ?? "x64",
      },
      image: null,
      network: false,
      trust: ["trusted"],
    };
  }

  /** A program that tells what it sees. `exit` ends with the first of `args`; `stay` does not end. */
  program(
    name: string,
    deed: "exit" | "stay" | "tree",
    args: readonly string[] = [],
    more: Partial<Program> = {},
  ): Program {
    return {
      files: [{ path: "guest.pl", mode: 0o644, content: guestScript }, ...(more.files ?? [])],
      command: ["perl", "{program}/guest.pl", "{guest}", name, deed, ...args],
      environment: more.environment ?? {},
      deadlineSeconds: more.deadlineSeconds ?? 300,
    };
  }

  /** The one voice of a machine, once it has told all it sees. */
  async voice(name: string): Promise<Voice> {
    await until(`${name} to speak`, async () => this.#voices.has(name));
    return this.#voices.get(name)![0]!;
  }

  /** How many programs spoke under this name. */
  voices(name: string): number {
    return this.#voices.get(name)?.length ?? 0;
  }

  /** Ends and removes everything, and gives what the provider left in its folder. */
  async close(): Promise<readonly string[]> {
    try {
      for (const provider of this.#providers) {
        const machines = await provider.list(never);
        for (const { name } of machines) await destroyed(provider, name);
      }
      await until("the machines' processes to end", async () => this.#sockets.size === 0);
      const entries = await readdir(this.#folder, { recursive: true });
      return entries.filter((entry) => entry.includes(`${this.installation}-`));
    } finally {
      for (const provider of this.#providers) await provider.close();
      for (const socket of this.#sockets) socket.destroy();
      this.#server.close();
      await rm(this.#folder, { recursive: true, force: true });
    }
  }

  #listen(socket: Socket): void {
    this.#sockets.add(socket);
    const voice = new Voice(socket);
    let text = "";
    let machine = "";
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      const lines = (text + chunk).split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        const [kind = "", ...hex] = line.split(" ");
        const words = hex.map((word) => Buffer.from(word, "hex").toString());
        if (kind === "machine") machine = words[0] ?? "";
        if (kind !== "told") voice.hear([kind, ...words]);
        else this.#voices.set(machine, [...(this.#voices.get(machine) ?? []), voice]);
      }
    });
  }
}

/** Polls until `condition` holds; fails, naming `what`, when it takes longer than `withinMs`. */
export async function until(
  what: string,
  condition: () => Promise<boolean>,
  withinMs = patienceMs,
): Promise<void> {
  const endAt = Date.now() + withinMs;
  while (!(await condition())) {
    if (Date.now() > endAt) throw new Error(`waited ${withinMs / 1000} s for ${what}`);
    await sleep(20);
  }
}

/** Destroys until gone, as the fleet does. */
export async function destroyed(provider: Provider, name: string): Promise<void> {
  await until(`${name} to be gone`, async () => (await provider.destroy(name, never)) === "gone");
}

/** What the provider lists under `name`: all of it, so that a double would show. */
export async function listed(provider: Provider, name: string) {
  return (await provider.list(never)).filter((machine) => machine.name === name);
}
