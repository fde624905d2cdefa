import { nobody } from "../../names.ts";
import { tags } from "../instances.ts";
import { sub, type Conditions, type Statement, type Value } from "./cloudformation.ts";

/*
 * Every call that Mayfly makes of AWS, why, and what of it may be done: the one source of the
 * policies in the template and of the table in the manual.
 */

/** What a stack is made of, in the words that a policy is limited by. */
export interface Scope {
  /** Null: any installation's machines. */
  readonly installation: string | null;
  readonly subnets: readonly Value[];
  readonly securityGroup: Value;
  /** The role of machines that take their claim from a parameter; null: machines have none. */
  readonly machineRole: Value | null;
  readonly queue: Value | null;
}

/** When it is wanted: always, or only with an option. */
export type Need = "always" | "parameter" | "front";

interface Grant {
  readonly resource: readonly Value[];
  readonly condition?: Conditions;
}

export interface Permission {
  readonly action: string;
  readonly why: string;
  /** Its limits, in words. */
  readonly limit: string;
  readonly need: Need;
  /** `call`: Mayfly makes it. `implied`: AWS asks for it when another call is made. */
  readonly kind: "call" | "implied";
  grants(scope: Scope): readonly Grant[];
}

const everything: readonly Grant[] = [{ resource: ["*"] }];
const anywhere = (): readonly Grant[] => everything;
const noLimit = "cannot be limited";

function ec2(kind: string): Value {
  return sub(`arn:\${AWS::Partition}:ec2:\${AWS::Region}:\${AWS::AccountId}:${kind}/*`);
}

/** The condition that `key` is of this installation, or where that is open, that it is there. */
function marked(key: string, { installation }: Scope): Conditions {
  return installation === null ? bearing(key) : { StringEquals: { [key]: installation } };
}

/** The same of what is to be made. `mayfly doctor` tries it in a name that has no machines. */
function marking({ installation }: Scope): Conditions {
  const key = requestTag;
  return installation === null ? bearing(key) : { StringEquals: { [key]: [installation, nobody] } };
}

/** Images are made on hosts of their own installations; one policy holds for all of them. */
const bearing = (key: string): Conditions => ({ StringLike: { [key]: "?*" } });

const requestTag = `aws:RequestTag/${tags.installation}`;
const resourceTag = `aws:ResourceTag/${tags.installation}`;

/** All below one name for one installation; what comes first in a path is the installation. */
function secrets({ installation }: Pick<Scope, "installation">): readonly Value[] {
  const path = `parameter/mayfly/${installation ?? "*"}/*`;
  return [sub(`arn:\${AWS::Partition}:ssm:\${AWS::Region}:\${AWS::AccountId}:${path}`)];
}

/** What the manager's provider and its front ask for. */
export const managerPermissions: readonly Permission[] = [
  {
    action: "ec2:RunInstances",
    why: "starts a machine",
    limit:
      "this stack's subnets and security group; an instance and a disk that bear the installation's tag, the instance with metadata by token only, the disk encrypted",
    need: "always",
    kind: "call",
    grants: (scope) => [
      {
        resource: [ec2("instance")],
        condition: merged(marking(scope), {
          StringEquals: { "ec2:MetadataHttpTokens": "required" },
        }),
      },
      {
        resource: [ec2("volume")],
        condition: merged(marking(scope), { Bool: { "ec2:Encrypted": "true" } }),
      },
      {
        resource: [
          ...scope.subnets.map((subnet) => idOf("subnet", subnet)),
          idOf("security-group", scope.securityGroup),
          ec2("network-interface"),
          ec2("spot-instances-request"),
          // An image's ARN names no account.
          sub("arn:${AWS::Partition}:ec2:${AWS::Region}::image/*"),
        ],
      },
    ],
  },
  {
    action: "ec2:CreateTags",
    why: "asked for by RunInstances, which says whose the machine is as it starts it",
    limit: "instances and disks, only while RunInstances makes them",
    need: "always",
    kind: "implied",
    grants: (scope) => [
      {
        resource: [ec2("instance"), ec2("volume")],
        condition: merged(marking(scope), {
          StringEquals: { "ec2:CreateAction": "RunInstances" },
        }),
      },
    ],
  },
  {
    action: "ec2:TerminateInstances",
    why: "ends a machine",
    limit: "instances that bear the installation's tag",
    need: "always",
    kind: "call",
    grants: (scope) => [{ resource: [ec2("instance")], condition: marked(resourceTag, scope) }],
  },
  {
    action: "ec2:DescribeInstances",
    why: "finds machines by their tags",
    limit: noLimit,
    need: "always",
    kind: "call",
    grants: anywhere,
  },
  {
    action: "ec2:DescribeImages",
    why: "finds the image, its disk and its architecture",
    limit: noLimit,
    need: "always",
    kind: "call",
    grants: anywhere,
  },
  {
    action: "ec2:DescribeSpotPriceHistory",
    why: "what spot costs; without it a guess is taken",
    limit: noLimit,
    need: "always",
    kind: "call",
    grants: anywhere,
  },
  {
    action: "ec2:DescribeSubnets",
    why: "only `mayfly doctor`: which zones there are",
    limit: noLimit,
    need: "always",
    kind: "call",
    grants: anywhere,
  },
  {
    action: "ec2:DescribeSecurityGroups",
    why: "only `mayfly doctor`: that nothing is let in",
    limit: noLimit,
    need: "always",
    kind: "call",
    grants: anywhere,
  },
  {
    action: "iam:CreateServiceLinkedRole",
    why: "asked for by the account's first RunInstances of spot, which has EC2 make its own role",
    limit: "the role of EC2 Spot, that only this service can take on",
    need: "always",
    kind: "implied",
    grants: () => [
      {
        resource: [
          sub(
            "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/aws-service-role/spot.amazonaws.com/AWSServiceRoleForEC2Spot",
          ),
        ],
        condition: { StringEquals: { "iam:AWSServiceName": "spot.amazonaws.com" } },
      },
    ],
  },
  {
    action: "ssm:GetParameter",
    why: "finds an image by `ssm:`",
    limit: "AWS's public parameters, and yours below `/mayfly-images/`",
    need: "always",
    kind: "call",
    grants: () => [
      {
        resource: [
          sub("arn:${AWS::Partition}:ssm:${AWS::Region}::parameter/aws/service/*"),
          sub(
            "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/mayfly-images/*",
          ),
        ],
      },
    ],
  },
  {
    action: "iam:PassRole",
    why: "asked for by RunInstances of a machine that has a role",
    limit: "the machines' role, and only to EC2",
    need: "parameter",
    kind: "implied",
    grants: ({ machineRole }) =>
      machineRole === null
        ? []
        : [
            {
              resource: [machineRole],
              condition: { StringEquals: { "iam:PassedToService": "ec2.amazonaws.com" } },
            },
          ],
  },
  ...(
    [
      ["ssm:PutParameter", "writes the claim of a machine", "call"],
      [
        "ssm:AddTagsToResource",
        "asked for by PutParameter, which says whose the claim is",
        "implied",
      ],
      ["ssm:DeleteParameter", "takes away what no machine fetched", "call"],
    ] as const
  ).map(([action, why, kind]): Permission => ({
    action,
    why,
    limit: "parameters below `/mayfly/INSTALLATION/`",
    need: "parameter",
    kind,
    grants: (scope) => [{ resource: secrets(scope) }],
  })),
  ...(
    [
      ["sqs:ReceiveMessage", "takes events from the front's queue"],
      ["sqs:DeleteMessage", "takes them off once they are stored"],
      ["sqs:GetQueueAttributes", "only `mayfly doctor`: how many wait"],
    ] as const
  ).map(([action, why]): Permission => ({
    action,
    why,
    limit: "the front's queue",
    need: "front",
    kind: "call",
    grants: ({ queue }) => (queue === null ? [] : [{ resource: [queue] }]),
  })),
];

// Snapshots' and images' ARNs name no account.
const snapshots = sub("arn:${AWS::Partition}:ec2:${AWS::Region}::snapshot/*");
const images = sub("arn:${AWS::Partition}:ec2:${AWS::Region}::image/*");

/** What making an image of a disk asks for: a snapshot written block by block, then registered. */
export const imagePermissions: readonly Permission[] = [
  ...(
    [
      ["ebs:StartSnapshot", "begins a snapshot", bearing(requestTag)],
      ["ebs:PutSnapshotBlock", "writes its blocks", bearing(resourceTag)],
      ["ebs:CompleteSnapshot", "seals it", bearing(resourceTag)],
      ["ec2:DeleteSnapshot", "takes an old one away", bearing(resourceTag)],
    ] as const
  ).map(([action, why, condition]): Permission => ({
    action,
    why,
    limit: "snapshots that bear an installation's tag",
    need: "always",
    kind: "call",
    grants: () => [{ resource: [snapshots], condition }],
  })),
  {
    action: "ec2:RegisterImage",
    why: "makes an image of a snapshot",
    limit: "images and snapshots that bear an installation's tag",
    need: "always",
    kind: "call",
    grants: () => [
      { resource: [images], condition: bearing(requestTag) },
      { resource: [snapshots], condition: bearing(resourceTag) },
    ],
  },
  {
    action: "ec2:DeregisterImage",
    why: "takes an old one away",
    limit: "images that bear an installation's tag",
    need: "always",
    kind: "call",
    grants: () => [{ resource: [images], condition: bearing(resourceTag) }],
  },
  {
    action: "ec2:CreateTags",
    why: "asked for by StartSnapshot and RegisterImage, which say what they make",
    limit: "snapshots and images, only while these calls make them",
    need: "always",
    kind: "implied",
    grants: () => [
      {
        resource: [snapshots],
        condition: { StringEquals: { "ec2:CreateAction": "StartSnapshot" } },
      },
      { resource: [images], condition: { StringEquals: { "ec2:CreateAction": "RegisterImage" } } },
    ],
  },
  ...(
    [
      ["ec2:DescribeSnapshots", "finds those that are there, and waits until one is whole"],
      ["ec2:DescribeImages", "finds those that are there"],
      ["ec2:DescribeInstances", "sees which are in use, before an old one is taken away"],
    ] as const
  ).map(([action, why]): Permission => ({
    action,
    why,
    limit: noLimit,
    need: "always",
    kind: "call",
    grants: anywhere,
  })),
];

/** What a machine's own role may, where its claim is a parameter. */
export function machineStatements(scope: Pick<Scope, "installation">): readonly Statement[] {
  return [
    {
      Effect: "Allow",
      Action: ["ssm:GetParameter", "ssm:DeleteParameter"],
      Resource: secrets(scope),
      // For an instance `aws:userid` ends in its own id, and the parameter bears the id of its reader.
      Condition: { StringLike: { "aws:userid": "*:${aws:ResourceTag/InstanceId}" } },
    },
  ];
}

/** The statements of a policy that grants these permissions, those alike in one. */
export function statementsOf(
  permissions: readonly Permission[],
  scope: Scope,
): readonly Statement[] {
  const byGrant = new Map<string, { grant: Grant; actions: string[] }>();
  for (const permission of permissions) {
    for (const grant of permission.grants(scope)) {
      const key = JSON.stringify(grant);
      const known = byGrant.get(key) ?? { grant, actions: [] };
      known.actions.push(permission.action);
      byGrant.set(key, known);
    }
  }
  return [...byGrant.values()].map(({ grant: { resource, condition }, actions }) => ({
    Effect: "Allow",
    Action: actions,
    Resource: resource,
    ...(condition === undefined ? {} : { Condition: condition }),
  }));
}

/** The manual's table. */
export function permissionTable(permissions: readonly Permission[]): string {
  const words: Readonly<Record<Need, string>> = {
    always: "",
    parameter: "only with `claimBy: parameter`: ",
    front: "only with the front: ",
  };
  const rows = permissions.map(
    ({ action, why, limit, need }) => `| \`${action}\` | ${words[need]}${why} | ${limit} |`,
  );
  return ["| permission | why | limited to |", "| --- | --- | --- |", ...rows].join("\n");
}

function idOf(kind: string, id: Value): Value {
  const arn = `arn:\${AWS::Partition}:ec2:\${AWS::Region}:\${AWS::AccountId}:${kind}/`;
  if (typeof id === "object" && "Ref" in id) return sub(`${arn}\${${id.Ref}}`);
  throw new Error("a policy is limited by resources of its own stack");
}

function merged(a: Conditions, b: Conditions): Conditions {
  const operators = new Set([...Object.keys(a), ...Object.keys(b)]);
  return Object.fromEntries([...operators].map((key) => [key, { ...a[key], ...b[key] }]));
}
