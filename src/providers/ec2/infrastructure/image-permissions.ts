import { sub } from "./cloudformation.ts";
import {
  anywhere,
  bearing,
  noLimit,
  requestTag,
  resourceTag,
  type Permission,
} from "./permissions.ts";

// Snapshots' and images' ARNs name no account.
const snapshots = sub("arn:${AWS::Partition}:ec2:${AWS::Region}::snapshot/*");
const images = sub("arn:${AWS::Partition}:ec2:${AWS::Region}::image/*");

/**
 * What making an image of a disk asks for: a snapshot written block by block, then registered.
 * Images are made on hosts of their own installations; one policy holds for all of them.
 */
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
