import { nobody } from "../../names.ts";
import { sub, type Conditions, type Value } from "./cloudformation.ts";
import {
  anywhere,
  bearing,
  noLimit,
  requestTag,
  resourceTag,
  secrets,
  type Permission,
  type Scope,
} from "./permissions.ts";

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

function idOf(kind: string, id: Value): Value {
  const arn = `arn:\${AWS::Partition}:ec2:\${AWS::Region}:\${AWS::AccountId}:${kind}/`;
  if (typeof id === "object" && "Ref" in id) return sub(`${arn}\${${id.Ref}}`);
  throw new Error("a policy is limited by resources of its own stack");
}

function merged(a: Conditions, b: Conditions): Conditions {
  const operators = new Set([...Object.keys(a), ...Object.keys(b)]);
  return Object.fromEntries([...operators].map((key) => [key, { ...a[key], ...b[key] }]));
}
