import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { createHash, sign } from "node:crypto";
import { once } from "node:events";
import {
  chmod,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { buffer } from "node:stream/consumers";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { execFile } from "node:child_process";
import { Secret } from "../../domain/secret.ts";
import { hasTool, lock } from "../debian.ts";
import { ebsAction, ebsProblem, EbsRules, ImageRules } from "./image-testing.ts";
import { imagePermissions } from "./infrastructure/image-permissions.ts";
import { managerPermissions } from "./infrastructure/manager-permissions.ts";
import { ec2Options, type Ec2Options } from "./options.ts";

/*
 * What tests need of Amazon: moto's server stands for EC2 and Parameter Store, and a small proxy in
 * front of it adds what moto does not do: client tokens, errors, lost answers, listings that lag,
 * why an instance ended, and machines that boot and run their user data.
 */

const run = promisify(execFile);
const never = new AbortController().signal;
const releases = ["moto[ec2,ssm,cloudformation,sqs,server]==5.2.5", "cfn-lint==1.58.0"];
const cache = join(homedir(), ".cache", "mayfly-test", "moto-5.2.5-cfn-lint-1.58.0");

// What the SDK finds by its default way; moto takes anyone.
process.env["AWS_ACCESS_KEY_ID"] = "tested";
process.env["AWS_SECRET_ACCESS_KEY"] = "tested";
process.env["AWS_EC2_METADATA_DISABLED"] = "true";

/**
 * The server for very many machines, in benches alone: an instance's tags are looked up by its id.
 * Moto compares each instance with every tag that there is, for each listing, and of 1,000 machines
 * lists none within half a minute.
 */
const largeServer = `
from moto.ec2.models.core import TaggedEC2Resource
from moto.ec2.utils import EC2_PREFIX_TO_RESOURCE, get_prefix

def get_tags(self):
    if not self.id:
        return []
    about = {"resource_id": self.id, "resource_type": EC2_PREFIX_TO_RESOURCE.get(get_prefix(self.id), "")}
    own = self.ec2_backend.tags.get(self.id, {})
    return [{**about, "key": key, "value": value} for key, value in own.items()]

TaggedEC2Resource.get_tags = get_tags

from moto.server import main
main()
`;

export interface Installed {
  /** The server's program. */
  readonly path: string;
  /** The program that judges templates of CloudFormation. */
  readonly linter: string;
}

/** What stands for Amazon, installed when it is first wanted, or why there can be none. */
export async function motoForTests(): Promise<Installed | string> {
  const installed = {
    path: join(cache, "bin", "moto_server"),
    linter: join(cache, "bin", "cfn-lint"),
  };
  if (!(await hasTool("openssl"))) return "openssl is not installed";
  if (await exists(join(cache, "whole"))) return installed;
  if (!(await hasTool("python3"))) return "python3 is not installed";
  await mkdir(join(cache, ".."), { recursive: true });
  const unlock = await lock(`${cache}.turn`, never);
  try {
    if (await exists(join(cache, "whole"))) return installed;
    await rm(cache, { recursive: true, force: true });
    console.log("# installing moto, which stands for Amazon");
    await run("python3", ["-m", "venv", cache]);
    const pip = [
      "-m",
      "pip",
      "install",
      "--quiet",
      "--disable-pip-version-check",
      "--retries=1",
      ...releases,
    ];
    await run(join(cache, "bin", "python"), pip, { timeout: 300_000 });
    await writeFile(join(cache, "whole.new"), "");
    await rename(join(cache, "whole.new"), join(cache, "whole"));
    return installed;
  } catch (error) {
    const why = (error as Error).message.split("\n").at(-2) ?? String(error);
    return `moto cannot be installed (python3-venv and PyPI are needed): ${why.slice(0, 200)}`;
  } finally {
    unlock();
  }
}

function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

export interface Call {
  readonly at: number;
  /** `ec2`, `ssm`. */
  readonly service?: string;
  /** `RunInstances`, `GetParameter`. */
  readonly action: string;
  readonly params: URLSearchParams;
}

/** What to do instead of passing a call on: an error, an answer, or one that gets lost on its way. */
export type Fault = { code: string; status?: number } | { body: string } | "lost" | undefined;

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string>;
  /** A character a byte. */
  readonly body: string;
}

/** Moto, with a proxy before it. */
export class Amazon {
  readonly calls: Call[] = [];
  /** What the manager asked for in all of its life: `ec2:RunInstances`. */
  readonly asked = new Set<string>();
  /** Asked for each call, in the order they come. */
  fault: (call: Call) => Fault = () => undefined;
  /** Listings show no instance. */
  isBlind = false;
  /** Whether machines run their user data. */
  boots = false;
  /** Where the guests' socket is of machines of an installation. */
  readonly guestFolders = new Map<string, string>();
  url = "";
  subnets: readonly string[] = [];
  securityGroup = "";
  image = "";
  readonly ebs = new EbsRules();
  readonly #images = new ImageRules();
  /** What an instance is told of itself, and AWS's signature of it; null: nothing. */
  identity: (id: string) => Identity | null = (id) => this.sign(this.document(id));
  #signer = { key: "", certificate: "" };
  readonly #launched = new Map<string, string>();
  readonly #moto: ChildProcess;
  #motoUrl = "";
  readonly #server: Server;
  readonly #tokens = new Map<string, { params: string; answer: Answer; id: string }>();
  readonly #over = new Set<string>();
  readonly #reasons = new Map<string, string>();
  readonly #played = new Map<string, Play>();
  #running: Promise<void> = Promise.resolve();
  #ending: Promise<void> = Promise.resolve();

  private constructor(moto: ChildProcess) {
    this.#moto = moto;
    this.#server = createServer((request, response) => void this.#serve(request, response));
    // None is closed just when a client uses it again: it would ask twice.
    this.#server.keepAliveTimeout = 0;
  }

  static async start(path: string, size: "small" | "large" = "small"): Promise<Amazon> {
    const tool = size === "small" ? path : join(path, "..", "python");
    const program = size === "small" ? [] : ["-c", largeServer];
    const moto = spawn(tool, [...program, "-H", "127.0.0.1", "-p", "0"], {
      stdio: ["ignore", "ignore", "pipe"],
      env: { PATH: process.env["PATH"], AWS_DEFAULT_REGION: "us-east-1" },
    });
    const amazon = new Amazon(moto);
    const lines = createInterface(moto.stderr);
    amazon.#motoUrl = await new Promise((resolve, reject) => {
      moto.once("exit", () => reject(new Error("moto ended")));
      lines.on("line", (line) => {
        const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
        if (url !== undefined) resolve(url);
      });
    });
    amazon.#server.listen(0, "127.0.0.1");
    await once(amazon.#server, "listening");
    amazon.url = `http://127.0.0.1:${(amazon.#server.address() as AddressInfo).port}`;
    amazon.#signer = await makeSigner();
    const subnets = await amazon.ask("DescribeSubnets");
    amazon.subnets = [...subnets.matchAll(/<subnetId>([^<]+)/g)].map(([, id = ""]) => id);
    const groups = await amazon.ask("DescribeSecurityGroups");
    amazon.securityGroup = /<groupId>([^<]+)/.exec(groups)?.[1] ?? "";
    const images = await amazon.ask("DescribeImages", {
      "Owner.1": "099720109477",
      "Filter.1.Name": "architecture",
      "Filter.1.Value.1": "x86_64",
    });
    amazon.image = /<imageId>([^<]+)/.exec(images)?.[1] ?? "";
    return amazon;
  }

  /** Options of a provider here, quick enough for tests. */
  options(more: Record<string, unknown> = {}): Ec2Options {
    return ec2Options.parse({
      region: "us-east-1",
      subnets: this.subnets.slice(0, 2),
      securityGroups: [this.securityGroup],
      types: ["c7i.large", "c7i.xlarge"],
      image: this.image,
      runsPerSecond: 1_000,
      readsPerSecond: 1_000,
      endsPerSecond: 1_000,
      endpoint: this.url,
      ...more,
    });
  }

  /** The certificate of who signs identity documents here. */
  get certificate(): Secret {
    return new Secret({ kind: "file", name: "certificate" }, this.#signer.certificate);
  }

  /** An instance's identity document, as EC2 writes it. */
  document(id: string, other: Record<string, unknown> = {}): string {
    const told = {
      accountId: "123456789012",
      architecture: "x86_64",
      availabilityZone: "us-east-1a",
      instanceId: id,
      pendingTime: this.#launched.get(id) ?? new Date().toISOString(),
      region: "us-east-1",
      version: "2017-09-30",
      ...other,
    };
    return JSON.stringify(told, null, 2);
  }

  /** Signed as AWS does, or with somebody else's key. */
  sign(document: string, key = this.#signer.key): Identity {
    return { document, signature: sign("sha256", Buffer.from(document), key).toString("base64") };
  }

  /** Moto's own address: signatures are good there alone, since they are over the host's name too. */
  get motoUrl(): string {
    return this.#motoUrl;
  }

  /** Asks moto itself, past the proxy. */
  ask(action: string, params: Record<string, string> = {}): Promise<string> {
    return this.query("ec2", { Action: action, Version: "2016-11-15", ...params });
  }

  /** The same of any service that is asked by forms. */
  async query(service: string, params: Record<string, string>): Promise<string> {
    const headers = { authorization: authorization(service) };
    const body = new URLSearchParams(params);
    const answer = await fetch(this.#motoUrl, { method: "POST", body, headers });
    return answer.text();
  }

  /** Makes a role that instances can have. */
  async role(name: string): Promise<void> {
    const query = (action: string, params: Record<string, string>) =>
      this.query("iam", { Action: action, Version: "2010-05-08", ...params });
    await query("CreateInstanceProfile", { InstanceProfileName: name });
  }

  /** The names of all parameters that are not Amazon's own. */
  async parameters(): Promise<string[]> {
    const answer = await fetch(this.#motoUrl, {
      method: "POST",
      headers: {
        authorization: authorization("ssm"),
        "content-type": "application/x-amz-json-1.1",
        "x-amz-target": "AmazonSSM.DescribeParameters",
      },
      body: "{}",
    });
    const { Parameters } = (await answer.json()) as { Parameters: { Name: string }[] };
    return Parameters.map(({ Name }) => Name).filter((name) => name.startsWith("/mayfly/"));
  }

  /** Keeps nothing of what was asked so far. */
  forget(): void {
    this.calls.length = 0;
    this.#tokens.clear();
  }

  /** How often an action was called. */
  count(action: string): number {
    return this.calls.filter((call) => call.action === action).length;
  }

  /** The ids of instances of this installation that are not over. */
  async living(installation: string): Promise<string[]> {
    const found = await this.ask("DescribeInstances", {
      "Filter.1.Name": "tag:mayfly:installation",
      "Filter.1.Value.1": installation,
      "Filter.2.Name": "instance-state-name",
      "Filter.2.Value.1": "pending",
      "Filter.2.Value.2": "running",
      MaxResults: "1000",
    });
    return [...found.matchAll(/<instanceId>([^<]+)/g)].map(([, id = ""]) => id);
  }

  /** Ends an instance as not a call of ours does: by itself, or by EC2. */
  async ends(id: string, reason: string): Promise<void> {
    // Also what plays an instance tells of its end, whoever ended it.
    if (this.#over.has(id)) return;
    await this.#oneByOne(async () => {
      if (this.#over.has(id)) return;
      this.#reasons.set(id, reason);
      await this.ask("TerminateInstances", { "InstanceId.1": id });
      this.#over.add(id);
    });
  }

  /** Moto cannot end two at once, nor one twice; EC2 can. */
  async #oneByOne<T>(work: () => Promise<T>): Promise<T> {
    const before = this.#ending;
    const over = Promise.withResolvers<void>();
    this.#ending = over.promise;
    await before;
    try {
      return await work();
    } finally {
      over.resolve();
    }
  }

  async #terminate(
    request: IncomingMessage,
    body: string,
    params: URLSearchParams,
  ): Promise<Answer> {
    if (params.get("DryRun") === "true") return this.#pass(request, body);
    const named = [...params].filter(([key]) => key.startsWith("InstanceId."));
    const ended = await this.#oneByOne(async () => {
      const left = named.filter(([, id]) => !this.#over.has(id));
      if (left.length === 0) return { answer: nothingToEnd, left };
      const others = [...params].filter(([key]) => !key.startsWith("InstanceId."));
      const passed = new URLSearchParams([...others, ...left]).toString();
      const answer = await this.#pass(request, passed);
      if (answer.status < 300) for (const [, id] of left) this.#over.add(id);
      return { answer, left };
    });
    if (ended.answer.status < 300) {
      for (const [, id] of ended.left) await this.#played.get(id)?.end();
    }
    return ended.answer;
  }

  async close(): Promise<void> {
    for (const play of this.#played.values()) await play.end();
    this.#server.closeAllConnections();
    this.#server.close();
    const over = once(this.#moto, "exit");
    this.#moto.kill();
    await over;
    assert.deepEqual(this.#ungranted(), [], "asked for, and in no policy of ours");
  }

  /** Calls for machines and images that none of our policies would let pass. */
  #ungranted(): readonly string[] {
    const granted = new Set(
      [...managerPermissions, ...imagePermissions].map(({ action }) => action),
    );
    return [...this.asked].filter((name) => /^(ec2|ssm|ebs):/.test(name) && !granted.has(name));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const body = await buffer(request);
      const ebs = ebsAction(request.method ?? "", request.url ?? "");
      const answer =
        ebs === null
          ? await this.#answer(request, body.toString())
          : await this.#answerEbs(ebs, request, body);
      if (answer === "lost") return void request.socket.destroy();
      response.writeHead(answer.status, answer.headers).end(answer.body, "latin1");
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  }

  async #answer(request: IncomingMessage, body: string): Promise<Answer | "lost"> {
    const target = request.headers["x-amz-target"];
    const params = new URLSearchParams(target === undefined ? body : "");
    const action = typeof target === "string" ? target.split(".")[1]! : params.get("Action")!;
    const service = serviceOf(request);
    const call = { at: performance.now(), service, action, params };
    this.calls.push(call);
    // What a machine asks for by its own role, it asks with curl.
    const isMachine = request.headers["user-agent"]?.startsWith("curl/") === true;
    if (!isMachine) this.asked.add(`${service}:${action}`);
    const fault = this.fault(call);
    if (typeof fault === "object") {
      if (!("body" in fault)) return problem(fault.code, fault.status ?? 400);
      return { status: 200, headers: { "content-type": "text/xml" }, body: fault.body };
    }
    const refusal = this.#images.refusal(action, params);
    if (refusal !== null) return problem(refusal, 400);
    const images = action === "DescribeImages" ? this.#images.shown(params) : null;
    if (images !== null) {
      if (fault === "lost") return "lost";
      return { status: 200, headers: { "content-type": "text/xml" }, body: images };
    }
    const left = action === "DeleteStack" ? await this.#takeApart(params.get("StackName")!) : [];
    const answer =
      action === "RunInstances"
        ? await this.#runOnce(request, body, params)
        : action === "TerminateInstances"
          ? await this.#terminate(request, body, params)
          : await this.#pass(request, body);
    for (const policy of left) {
      const which = { Version: "2010-05-08", PolicyArn: policy };
      await this.query("iam", { ...which, Action: "DeletePolicy" });
    }
    this.#images.after(action, params, answer.body);
    if (fault === "lost") return "lost";
    if (action === "DescribeSnapshots") return { ...answer, body: this.ebs.shown(answer.body) };
    if (action !== "DescribeInstances") return answer;
    return { ...answer, body: this.#shown(answer.body) };
  }

  /**
   * Moto's stacks leave behind what a network's ways out are made of; CloudFormation does not. Gives
   * the policies, which it leaves too (it even forgets those that it changes), and which can go only
   * when nobody holds them.
   */
  async #takeApart(stack: string): Promise<readonly string[]> {
    const about = { Version: "2010-05-15", Action: "DescribeStackResources", StackName: stack };
    const told = await this.query("cloudformation", about);
    const ids = (type: string): string[] =>
      [...told.matchAll(/<member>[^]*?<\/member>/g)]
        .map(([member]) => member)
        .filter((member) => member.includes(`<ResourceType>AWS::${type}<`))
        .map((member) => /<PhysicalResourceId>([^<]+)/.exec(member)?.[1] ?? "");
    for (const id of ids("EC2::SubnetRouteTableAssociation")) {
      await this.ask("DisassociateRouteTable", { AssociationId: id });
    }
    for (const id of ids("EC2::RouteTable"))
      await this.ask("DeleteRouteTable", { RouteTableId: id });
    for (const id of ids("EC2::InternetGateway")) {
      for (const vpc of ids("EC2::VPC")) {
        await this.ask("DetachInternetGateway", { InternetGatewayId: id, VpcId: vpc });
      }
      await this.ask("DeleteInternetGateway", { InternetGatewayId: id });
    }
    const policies = { Version: "2010-05-08", Action: "ListPolicies", Scope: "Local" };
    const name = /<StackName>([^<]+)/.exec(told)?.[1] ?? "";
    const arns = (await this.query("iam", policies)).matchAll(/<Arn>([^<]+)/g);
    return [...arns].map(([, arn = ""]) => arn).filter((arn) => arn.includes(`:policy/${name}-`));
  }

  /** A call's only parameter here is its `path`. */
  async #answerEbs(
    action: string,
    request: IncomingMessage,
    body: Buffer,
  ): Promise<Answer | "lost"> {
    const { url: path = "", headers } = request;
    const call = { at: performance.now(), action, params: new URLSearchParams({ path }) };
    this.calls.push(call);
    // What was written, only tests read back.
    if (!/^(Get|List)/.test(action)) this.asked.add(`ebs:${action}`);
    const fault = this.fault(call);
    if (typeof fault === "object" && "code" in fault) {
      return ebsProblem(fault.code, fault.status ?? 400);
    }
    const asked = { action, path, headers, body };
    const known = this.ebs.before(asked);
    const answer = known ?? (await this.#pass(request, body));
    if (known === null) this.ebs.after(asked, answer);
    return fault === "lost" ? "lost" : answer;
  }

  /** Moto does not know client tokens: EC2's rules for them. */
  async #runOnce(request: IncomingMessage, body: string, params: URLSearchParams): Promise<Answer> {
    if (params.get("DryRun") === "true") return this.#pass(request, body);
    const token = params.get("ClientToken") ?? "";
    const known = this.#tokens.get(token);
    const digest = createHash("sha256").update(body).digest("hex");
    if (known !== undefined) {
      if (known.params !== digest) return problem("IdempotentParameterMismatch", 400);
      if (this.#over.has(known.id)) return problem("IdempotentInstanceTerminated", 400);
      return known.answer;
    }
    // Taken before moto answers, so that two at once are one.
    const made = Promise.withResolvers<void>();
    const before = this.#running;
    this.#running = made.promise;
    await before;
    try {
      const again = this.#tokens.get(token);
      if (again !== undefined) return await this.#runOnce(request, body, params);
      const answer = await this.#pass(request, body);
      const id = /<instanceId>([^<]+)/.exec(answer.body)?.[1];
      if (id === undefined) return answer;
      const launched = /<launchTime>([^<]+)/.exec(answer.body)?.[1];
      if (launched !== undefined) this.#launched.set(id, launched);
      this.#tokens.set(token, { params: digest, answer, id });
      if (this.boots) await this.#boot(id, params);
      return answer;
    } finally {
      made.resolve();
    }
  }

  /** Gives the notice of two minutes to an instance that runs here. */
  notice(id: string): void {
    this.#played.get(id)!.isNoticed = true;
  }

  async #boot(id: string, params: URLSearchParams): Promise<void> {
    let installation = "";
    for (const [key, value] of params) {
      if (value !== "mayfly:installation") continue;
      installation = params.get(key.replace(/Key$/, "Value")) ?? "";
    }
    const attribute = { InstanceId: id, Attribute: "userData" };
    const told = await this.ask("DescribeInstanceAttribute", attribute);
    const data = /<value>([^<]+)/.exec(told)?.[1] ?? "";
    const guest = this.guestFolders.get(installation) ?? "/nonexistent";
    const play = await Play.start(
      { id, data, guest, url: this.url, identity: () => this.identity(id) },
      () => this.ends(id, "Client.InstanceInitiatedShutdown"),
    );
    this.#played.set(id, play);
  }

  #shown(body: string): string {
    if (this.isBlind) {
      return body.replace(/<reservationSet>[^]*<\/reservationSet>/, "<reservationSet/>");
    }
    let shown = body;
    for (const [id, reason] of this.#reasons) {
      const at = shown.indexOf(`<instanceId>${id}<`);
      if (at < 0) continue;
      // In moto's XML the reason stands before the id, in the same item.
      const from = shown.lastIndexOf("<stateReason>", at);
      const until = shown.indexOf("</stateReason>", from);
      const told = `<stateReason><code>${reason}</code><message>${reason}</message>`;
      shown = shown.slice(0, from) + told + shown.slice(until);
    }
    return shown;
  }

  async #pass(request: IncomingMessage, body: string | Buffer): Promise<Answer> {
    const { method = "", url = "" } = request;
    const headers = Object.entries(request.headers).filter(
      ([name, value]) =>
        typeof value === "string" &&
        !["host", "connection", "content-length", "expect", "transfer-encoding"].includes(name),
    ) as [string, string][];
    const sent =
      method === "GET" ? {} : { body: typeof body === "string" ? body : new Uint8Array(body) };
    const answer = await fetch(`${this.#motoUrl}${url}`, { method, headers, ...sent });
    const kept = [...answer.headers].filter(([name]) => /^(content-type$|x-amz)/.test(name));
    return {
      status: answer.status,
      headers: { "content-type": "text/xml", ...Object.fromEntries(kept) },
      body: Buffer.from(await answer.arrayBuffer()).toString("latin1"),
    };
  }
}

function serviceOf({ headers }: IncomingMessage): string {
  return /Credential=[^/]+\/\d+\/[^/]+\/([a-z0-9]+)\//.exec(headers.authorization ?? "")?.[1] ?? "";
}

/** Moto looks at nothing but the service and the region in it. */
function authorization(service: string): string {
  const credential = `Credential=x/20260101/us-east-1/${service}/aws4_request`;
  return `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=host, Signature=x`;
}

const nothingToEnd: Answer = {
  status: 200,
  headers: { "content-type": "text/xml" },
  body: '<TerminateInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>0</requestId><instancesSet/></TerminateInstancesResponse>',
};

/** An error as EC2 writes it. */
function problem(code: string, status: number): Answer {
  const body = `<?xml version="1.0" encoding="UTF-8"?>
<Response><Errors><Error><Code>${code}</Code><Message>told to a test</Message></Error></Errors><RequestID>0-0-0</RequestID></Response>`;
  return { status, headers: { "content-type": "text/xml" }, body };
}

export interface Identity {
  readonly document: string;
  readonly signature: string;
}

/** A key pair of our own in AWS's place, with its certificate. */
async function makeSigner(): Promise<{ key: string; certificate: string }> {
  const folder = await mkdtemp(join(tmpdir(), "mayfly-signer-"));
  try {
    const to = ["-keyout", join(folder, "key"), "-out", join(folder, "certificate")];
    const kind = ["-newkey", "rsa:2048", "-nodes", "-subj", "/O=Tested/", "-days", "2"];
    await run("openssl", ["req", "-x509", ...kind, ...to]);
    const read = (name: string) => readFile(join(folder, name), "utf8");
    return { key: await read("key"), certificate: await read("certificate") };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Boot {
  readonly id: string;
  readonly data: string;
  readonly guest: string;
  readonly url: string;
  readonly identity: () => Identity | null;
}

/** Plays one instance: its user data, run in a folder of its own, until it shuts down. */
class Play {
  isNoticed = false;
  readonly #id: string;
  readonly #metadata = createServer((request, response) => this.#tell(request, response));
  #child!: ChildProcess;
  #over!: Promise<void>;

  readonly #identity: () => Identity | null;

  private constructor({ id, identity }: Boot) {
    this.#id = id;
    this.#identity = identity;
  }

  #run(child: ChildProcess, folder: string, shutDown: () => Promise<void>): void {
    this.#child = child;
    this.#over = once(child, "exit").then(async () => {
      // What it left in its session goes with it, as all of an instance does.
      this.#kill();
      this.#metadata.close();
      await shutDown().catch(() => {});
      await rm(folder, { recursive: true, force: true, maxRetries: 3 });
    });
  }

  static async start(boot: Boot, shutDown: () => Promise<void>): Promise<Play> {
    const { id, data, guest: guestFolder, url } = boot;
    const folder = await mkdtemp(join(tmpdir(), `mayfly-${id}-`));
    const root = join(folder, "root");
    const bin = join(folder, "bin");
    await mkdir(root);
    await mkdir(bin);
    await symlink(join(guestFolder, "guest.sock"), join(root, "guest.sock"));
    // To power off is to end all of the session at once; a time in the future is only noted.
    const off = '#!/bin/sh\n[ "$2" = now ] && kill -KILL 0\nexit 0\n';
    await writeFile(join(bin, "shutdown"), off);
    await chmod(join(bin, "shutdown"), 0o755);
    const script = join(folder, "user-data");
    await writeFile(script, gunzipSync(Buffer.from(data, "base64")), { mode: 0o755 });
    const play = new Play(boot);
    play.#metadata.listen(0, "127.0.0.1");
    await once(play.#metadata, "listening");
    const { port } = play.#metadata.address() as AddressInfo;
    const child = spawn("/bin/sh", [script], {
      detached: true,
      stdio: "ignore",
      env: {
        PATH: `${bin}:${process.env["PATH"]}`,
        MAYFLY_ROOT: root,
        MAYFLY_METADATA: `127.0.0.1:${port}`,
        MAYFLY_SSM: `${url}/`,
      },
    });
    play.#run(child, folder, shutDown);
    return play;
  }

  /** The instance's metadata, its second version: nothing without a token. */
  #tell(request: IncomingMessage, response: ServerResponse): void {
    const base = "/latest/meta-data";
    const keys = { AccessKeyId: "role", SecretAccessKey: "a/b+c=", Token: "t/o+k==" };
    const identity = this.#identity();
    const known: Record<string, string> = {
      ...(identity === null
        ? {}
        : {
            "/latest/dynamic/instance-identity/document": identity.document,
            // EC2 breaks it into lines.
            "/latest/dynamic/instance-identity/signature": identity.signature.replace(
              /.{76}/g,
              "$&\n",
            ),
          }),
      [`${base}/instance-id`]: this.#id,
      [`${base}/iam/security-credentials/`]: "reader",
      [`${base}/iam/security-credentials/reader`]: JSON.stringify(keys, null, 2),
      ...(this.isNoticed ? { [`${base}/spot/instance-action`]: '{"action":"terminate"}' } : {}),
    };
    const isToken = request.method === "PUT" && request.url === "/latest/api/token";
    const isAllowed = request.headers["x-aws-ec2-metadata-token"] === "granted";
    const body = isToken ? "granted" : known[request.url ?? ""];
    const status = isToken || isAllowed ? (body === undefined ? 404 : 200) : 401;
    response.writeHead(status).end(status === 200 ? body : "");
  }

  async end(): Promise<void> {
    this.#kill();
    await this.#over;
  }

  #kill(): void {
    try {
      if (this.#child.pid !== undefined) process.kill(-this.#child.pid, "SIGKILL");
    } catch {
      // All of it is gone.
    }
  }
}
