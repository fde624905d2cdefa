import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { destroyed, never, World } from "../../conformance-world.ts";
import { nobody } from "../../names.ts";
import { open } from "../ec2.ts";
import { Amazon, motoForTests, type Call, type Installed } from "../testing.ts";
import { priceTable } from "./costs.ts";
import { imagePermissions } from "./image-permissions.ts";
import { managerPermissions } from "./manager-permissions.ts";
import { machineStatements, permissionTable, statementsOf, type Scope } from "./permissions.ts";
import type { Conditions, Statement, Value } from "./cloudformation.ts";

const installed = await motoForTests();
const skip = typeof installed === "string" ? installed : false;
const page = join(import.meta.dirname, "../../../../docs/aws.md");

test("the manual's tables are these", async () => {
  let text = await readFile(page, "utf8");
  const tables = {
    permissions: permissionTable(managerPermissions),
    "image permissions": permissionTable(imagePermissions),
    prices: priceTable(),
  };
  for (const [name, table] of Object.entries(tables)) {
    const marks = new RegExp(`(?<=<!-- ${name} -->\n\n)[^]*?(?=<!-- /${name} -->)`);
    if (process.env["UPDATE_DOCS"] === "1") text = text.replace(marks, () => `${table}\n\n`);
    // Prettier pads the cells of a table.
    else assert.deepEqual(rows(marks.exec(text)?.[0].trim() ?? ""), rows(table), howToMend);
  }
  if (process.env["UPDATE_DOCS"] === "1") await writeFile(page, text);
});

const howToMend = "run this test with UPDATE_DOCS=1, then prettier, to mend it";

function rows(table: string): string[] {
  return table.split("\n").map((row) => row.trim().replace(/ +/g, " ").replace(/-{3,}/g, "---"));
}

/** A stack as AWS would have made it. */
const stack: Readonly<Record<string, string>> = {
  "AWS::Partition": "aws",
  "AWS::Region": "us-east-1",
  "AWS::AccountId": "123456789012",
  Group: "sg-1",
};
const queue = "arn:aws:sqs:us-east-1:123456789012:front";
const machineRole = "arn:aws:iam::123456789012:role/machine";

function scopeOf(installation: string | null): Scope {
  const subnets = Object.keys(stack).filter((name) => name.startsWith("Subnet"));
  return {
    installation,
    subnets: subnets.map((Ref) => ({ Ref })),
    securityGroup: { Ref: "Group" },
    machineRole,
    queue,
  };
}

let amazon: Amazon;

suite("the manager's permissions", { skip, timeout: 600_000 }, () => {
  let world: World;
  let options: Record<string, unknown> = {};
  let asked = 0;

  before(async () => {
    amazon = await Amazon.start((installed as Installed).path);
    Object.assign(stack, { Subnet1: amazon.subnets[0], Subnet2: amazon.subnets[1] });
    Object.assign(stack, { Group: amazon.securityGroup });
    await amazon.role("reader");
    world = await World.make((context) => open(amazon.options(options), context));
  });
  after(async () => {
    await world.close();
    await amazon.close();
  });

  /** Everything that a provider does in its life, each in its own way. */
  const live = async (endpoint: string, keys: Record<string, unknown> = {}): Promise<void> => {
    const image = "ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64";
    const byParameter = { claimBy: "parameter", instanceProfile: "reader" };
    for (const [n, more] of [{}, { ...byParameter, image }].entries()) {
      options = { endpoint, ...keys, ...more };
      const provider = await world.open();
      for (const { ok, name, detail } of await provider.check(never)) {
        assert.ok(ok, `${name}: ${detail}`);
      }
      const spec = world.spec(`${asked++}-${n}`, provider);
      const claim = { path: "claim", mode: 0o600, content: "once" };
      const program = world.program(spec.name, "stay", [], { files: [claim] });
      await provider.create(spec, program, never);
      await provider.list(never);
      await destroyed(provider, spec.name);
    }
  };

  test("are exactly what is asked for", async () => {
    amazon.asked.clear();
    await live(amazon.url);
    const wanted = managerPermissions
      .filter(({ kind, need }) => kind === "call" && need !== "front")
      .map(({ action }) => action);
    assert.deepEqual([...amazon.asked].toSorted(), wanted.toSorted());
    // Also of a machine that never came to fetch it.
    assert.deepEqual(await amazon.parameters(), []);
  });

  test("allow each request that the provider makes, and not the same of a stranger", async () => {
    amazon.calls.length = 0;
    await live(amazon.url);
    const { installation } = world;
    const statements = statementsOf(managerPermissions, scopeOf(installation));
    const asked = amazon.calls.flatMap((call) => requestsOf(call, installation));
    assert.ok(asked.some(({ resource }) => resource.includes(":instance/")));
    for (const request of asked) assert.ok(allows(statements, request), JSON.stringify(request));
    // What another installation's machines bear is not ours to start or end.
    const of = (other: string) =>
      asked.map(({ context, ...request }) => ({
        ...request,
        context: Object.fromEntries(
          Object.entries(context).map(([key, value]) => [
            key,
            value === installation ? other : value,
          ]),
        ),
      }));
    const marked = of("another").filter(({ context }) =>
      Object.values(context).includes("another"),
    );
    assert.ok(marked.length > 5);
    for (const request of marked) assert.ok(!allows(statements, request), JSON.stringify(request));
    // What doctor tries is in a name of its own, which has nothing to end.
    for (const request of of(nobody)) {
      const isEnd = request.action === "ec2:TerminateInstances";
      assert.equal(allows(statements, request), !isEnd, JSON.stringify(request));
    }
    const open = statementsOf(managerPermissions, scopeOf(null));
    for (const request of marked) assert.ok(allows(open, request));
    // Nor is a machine without a tag, an open disk, old metadata, or another network's.
    const start = asked.filter(({ action }) => action === "ec2:RunInstances");
    for (const [key, value] of [
      ["aws:RequestTag/mayfly:installation", undefined],
      ["ec2:Encrypted", "false"],
      ["ec2:MetadataHttpTokens", "optional"],
    ] as const) {
      const bad = start.filter(({ context }) => key in context);
      assert.ok(bad.length > 0, key);
      for (const request of bad) {
        const { [key]: _, ...rest } = request.context;
        const context = value === undefined ? rest : { ...rest, [key]: value };
        assert.ok(!allows(statements, { ...request, context }), key);
      }
    }
    for (const kind of ["subnet/subnet-0", "security-group/sg-0", "key-pair/mine"]) {
      const resource = `arn:aws:ec2:us-east-1:123456789012:${kind}`;
      assert.ok(!allows(statements, { action: "ec2:RunInstances", resource, context: {} }), kind);
    }
  });

  test("are enough for moto's own judge, and one less is refused", async () => {
    const user = "manager";
    const policy = (without: string | null): string => {
      const actions = managerPermissions.map(({ action }) => action);
      // Moto's judge looks at actions alone: it knows no resource of EC2's, and denies by any condition.
      const Action = actions.filter((action) => action !== without);
      return JSON.stringify({
        Version: "2012-10-17",
        Statement: [{ Effect: "Allow", Action, Resource: "*" }],
      });
    };
    const iam = (action: string, more: Record<string, string>) =>
      amazon.query("iam", { Version: "2010-05-08", Action: action, UserName: user, ...more });
    await iam("CreateUser", {});
    const made = await iam("CreateAccessKey", {});
    const part = (tag: string): string => new RegExp(`<${tag}>([^<]+)`).exec(made)![1]!;
    const put = async (without: string | null): Promise<void> => {
      await judged("inf");
      await iam("PutUserPolicy", { PolicyName: "all", PolicyDocument: policy(without) });
      await judged("0");
    };
    const judged = async (count: string): Promise<void> => {
      const url = `${amazon.motoUrl}/moto-api/reset-auth`;
      assert.ok((await fetch(url, { method: "POST", body: count })).ok);
    };
    const keys = { id: part("AccessKeyId"), secret: part("SecretAccessKey") };
    try {
      await put(null);
      await signedIn(keys, () => live(amazon.motoUrl));
      await signedIn({ ...keys, secret: "guessed" }, () =>
        assert.rejects(live(amazon.motoUrl), /account: .*AuthFailure/),
      );
      for (const { action, kind, need } of managerPermissions) {
        // Implied ones are not looked at by moto; prices are worth having, not worth failing for.
        if (kind !== "call" || need === "front" || action.endsWith("PriceHistory")) continue;
        await put(action);
        const refused = await signedIn(keys, () => live(amazon.motoUrl)).then(
          () => null,
          (error: Error) => error,
        );
        // Moto writes refusals in XML also where the service speaks JSON.
        const said = action.startsWith("ssm:") ? /"<\?xml/ : /not authorized|UnauthorizedOperation/;
        assert.match(`${action}: ${refused}`, said);
      }
    } finally {
      await judged("inf");
    }
  });
});

test("a machine's role reads and deletes its own parameter alone", () => {
  const [statement, ...more] = machineStatements({ installation: "abcde" });
  assert.deepEqual(more, []);
  assert.deepEqual(statement?.Action, ["ssm:GetParameter", "ssm:DeleteParameter"]);
  assert.match(JSON.stringify(statement?.Resource), /parameter\/mayfly\/abcde\/\*"/);
  assert.deepEqual(statement?.Condition, {
    StringLike: { "aws:userid": "*:${aws:ResourceTag/InstanceId}" },
  });
});

/** The credentials that the SDK finds, while `work` is done. */
async function signedIn(
  keys: { id: string; secret: string },
  work: () => Promise<void>,
): Promise<void> {
  const before = { ...process.env };
  process.env["AWS_ACCESS_KEY_ID"] = keys.id;
  process.env["AWS_SECRET_ACCESS_KEY"] = keys.secret;
  try {
    await work();
  } finally {
    for (const name of ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]) {
      process.env[name] = before[name];
    }
  }
}

/** What IAM is asked of one call: an action, one resource, and what is known of it. */
interface Request {
  readonly action: string;
  readonly resource: string;
  readonly context: Readonly<Record<string, string>>;
}

/** The requests that AWS derives of a call, by the tables of its service authorization reference. */
function requestsOf({ service, action, params }: Call, installation: string): readonly Request[] {
  const arn = (kind: string, account = "123456789012") =>
    `arn:aws:ec2:us-east-1:${account}:${kind}`;
  const name = `${service}:${action}`;
  if (action === "RunInstances") return launchRequests(name, params, arn);
  if (action === "TerminateInstances") {
    // Doctor's is of one that is not there, and so without tags.
    const ids = [...params].filter(([key]) => key.startsWith("InstanceId")).map(([, id]) => id);
    return ids
      .filter((id) => !/^i-0+$/.test(id))
      .map((id) => ({
        action: name,
        resource: arn(`instance/${id}`),
        context: { "aws:ResourceTag/mayfly:installation": installation },
      }));
  }
  if (service !== "ssm") return [{ action: name, resource: "*", context: {} }];
  const own = `arn:aws:ssm:us-east-1:123456789012:parameter/mayfly/${installation}/i-1`;
  const shared = "arn:aws:ssm:us-east-1::parameter/aws/service/ami-amazon-linux-latest/x";
  const resource = action === "GetParameter" ? shared : own;
  const also = action === "PutParameter" ? ["ssm:AddTagsToResource"] : [];
  return [name, ...also].map((each) => ({ action: each, resource, context: {} }));
}

function launchRequests(
  action: string,
  params: URLSearchParams,
  arn: (kind: string, account?: string) => string,
): readonly Request[] {
  const of = (key: string): string => params.get(key) ?? "";
  const tagsOf = (kind: string): Record<string, string> => {
    const n = [1, 2, 3].find((i) => of(`TagSpecification.${i}.ResourceType`) === kind) ?? 0;
    const marks: Record<string, string> = {};
    for (let i = 1; params.has(`TagSpecification.${n}.Tag.${i}.Key`); i++) {
      const key = of(`TagSpecification.${n}.Tag.${i}.Key`);
      marks[`aws:RequestTag/${key}`] = of(`TagSpecification.${n}.Tag.${i}.Value`);
    }
    return marks;
  };
  const made = { "ec2:CreateAction": "RunInstances" };
  const tokens = { "ec2:MetadataHttpTokens": of("MetadataOptions.HttpTokens") };
  const sealed = { "ec2:Encrypted": of("BlockDeviceMapping.1.Ebs.Encrypted") };
  const request = (resource: string, context: Record<string, string> = {}, by = action) => ({
    action: by,
    resource,
    context,
  });
  return [
    request(arn("instance/*"), { ...tagsOf("instance"), ...tokens }),
    request(arn("volume/*"), { ...tagsOf("volume"), ...sealed }),
    request(arn("network-interface/*")),
    request(arn(`subnet/${of("NetworkInterface.1.SubnetId")}`)),
    request(arn(`security-group/${of("NetworkInterface.1.SecurityGroupId.1")}`)),
    request(arn(`image/${of("ImageId")}`, "")),
    request(arn("instance/*"), { ...tagsOf("instance"), ...made }, "ec2:CreateTags"),
    request(arn("volume/*"), { ...tagsOf("volume"), ...made }, "ec2:CreateTags"),
    ...(params.has("IamInstanceProfile.Name")
      ? [request(machineRole, { "iam:PassedToService": "ec2.amazonaws.com" }, "iam:PassRole")]
      : []),
  ];
}

/** IAM's rules as far as our policies use them: allow statements, `*`, and four operators. */
function allows(statements: readonly Statement[], request: Request): boolean {
  return statements.some(({ Action, Resource = [], Condition = {} }) => {
    const actions = [Action].flat();
    const resources: readonly Value[] = [Resource].flat();
    return (
      actions.includes(request.action) &&
      resources.some((pattern) => like(placed(pattern), request.resource)) &&
      holds(Condition, request.context)
    );
  });
}

function holds(conditions: Conditions, context: Readonly<Record<string, string>>): boolean {
  return Object.entries(conditions).every(([operator, keys]) =>
    Object.entries(keys).every(([key, wanted]) => {
      const given = context[key];
      if (given === undefined) return false;
      const values = [wanted].flat();
      if (operator === "StringLike") return values.some((value) => like(value, given));
      assert.ok(["StringEquals", "Bool"].includes(operator), operator);
      return values.includes(given);
    }),
  );
}

function like(pattern: string, text: string): boolean {
  const parts = pattern.split(/([*?])/).map((part) => {
    if (part === "*") return ".*";
    return part === "?" ? "." : part.replaceAll(/[^\w]/g, String.raw`\$&`);
  });
  return new RegExp(`^${parts.join("")}$`, "s").test(text);
}

/** A value with what the stack made in its place. */
function placed(value: Value): string {
  if (typeof value === "string") return value;
  assert.ok("Fn::Sub" in value);
  return value["Fn::Sub"].replaceAll(/\$\{([^}]+)\}/g, (_, name: string) => stack[name] ?? "");
}
