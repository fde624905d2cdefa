import { tags } from "../instances.ts";
import {
  attribute,
  ours,
  policy,
  ref,
  trusts,
  type Outputs,
  type Resources,
  type Template,
} from "./cloudformation.ts";
import { addFront } from "./front.ts";
import { imagePermissions } from "./image-permissions.ts";
import { managerPermissions } from "./manager-permissions.ts";
import { addNetwork } from "./network.ts";
import { machineStatements, statementsOf, type Scope } from "./permissions.ts";

/** What is to be put up. */
export interface StackOptions {
  /** Zones to have a subnet in; more places where there may be spot. */
  readonly zones: number;
  /** Whose machines the manager may make and end; null: those of any installation. */
  readonly installation: string | null;
  /** What the manager is to AWS: a user with a key, a role of its host, or nothing of this stack's. */
  readonly manager: "user" | "role" | "none";
  /** Whether machines have a role, by which they take their claim from a parameter. */
  readonly parameter: boolean;
  /** The front for webhooks: how many of it may run at once; 0: as many as the account lets; null: none. */
  readonly front: number | null;
}

export const defaultStack: StackOptions = {
  zones: 3,
  installation: null,
  manager: "user",
  parameter: false,
  front: null,
};

/** By which a stack is known as ours; its value is the version of what is in it. */
export const stackTag = "mayfly:stack";
const stackVersion = "1";

/**
 * The template of everything that Mayfly needs at AWS. Nothing in it has a name of its own, so that
 * an account may have several of it. `handler` is the source of the front.
 */
export function synthesise(options: StackOptions, handler: string): Template {
  const resources: Resources = {};
  const outputs: Outputs = {};
  const subnets = addNetwork(options.zones, resources, outputs);
  const scope: Scope = {
    installation: options.installation,
    subnets: subnets.map(ref),
    securityGroup: ref("MachineGroup"),
    machineRole: options.parameter ? attribute("MachineRole", "Arn") : null,
    queue: options.front === null ? null : attribute("FrontQueue", "Arn"),
  };
  if (options.parameter) machineRole(scope, resources, outputs);
  if (options.front !== null) addFront(options.front, handler, resources, outputs);
  manager(options, scope, resources, outputs);
  resources["ImagePolicy"] = {
    Type: "AWS::IAM::ManagedPolicy",
    Properties: {
      Description: "What making images needs",
      PolicyDocument: policy(statementsOf(imagePermissions, scope)),
    },
  };
  outputs["ImagePolicy"] = {
    Description: "Lets its holder make images",
    Value: ref("ImagePolicy"),
  };
  return {
    AWSTemplateFormatVersion: "2010-09-09",
    Description: "Mayfly: a network for machines of one job each, and who may make them",
    // What an update goes on from; CloudFormation takes no null.
    Metadata: { Mayfly: { version: stackVersion, options: JSON.stringify(options) } },
    Resources: resources,
    Outputs: outputs,
  };
}

function manager(
  options: StackOptions,
  scope: Scope,
  resources: Resources,
  outputs: Outputs,
): void {
  const wanted = managerPermissions.filter(
    ({ need }) =>
      need === "always" ||
      (need === "parameter" && options.parameter) ||
      (need === "front" && options.front !== null),
  );
  resources["ManagerPolicy"] = {
    Type: "AWS::IAM::ManagedPolicy",
    Properties: {
      Description: "What Mayfly itself needs",
      PolicyDocument: policy(statementsOf(wanted, scope)),
    },
  };
  outputs["ManagerPolicy"] = {
    Description: "Lets its holder make and end machines",
    Value: ref("ManagerPolicy"),
  };
  const may = { ManagedPolicyArns: [ref("ManagerPolicy")] };
  // A resource of another kind has another name: an update cannot turn one into the other.
  if (options.manager === "user") {
    resources["ManagerUser"] = { Type: "AWS::IAM::User", Properties: { ...may, Tags: ours } };
    outputs["ManagerUser"] = { Description: "Mayfly's user", Value: ref("ManagerUser") };
  }
  if (options.manager === "role") {
    resources["ManagerRole"] = {
      Type: "AWS::IAM::Role",
      Properties: { AssumeRolePolicyDocument: trusts("ec2.amazonaws.com"), ...may, Tags: ours },
    };
    resources["ManagerProfile"] = {
      Type: "AWS::IAM::InstanceProfile",
      Properties: { Roles: [ref("ManagerRole")] },
    };
    outputs["ManagerProfile"] = {
      Description: "The profile of the host that Mayfly runs on",
      Value: ref("ManagerProfile"),
    };
  }
}

function machineRole(scope: Scope, resources: Resources, outputs: Outputs): void {
  resources["MachineRole"] = {
    Type: "AWS::IAM::Role",
    Properties: {
      AssumeRolePolicyDocument: trusts("ec2.amazonaws.com"),
      Policies: [{ PolicyName: "claim", PolicyDocument: policy(machineStatements(scope)) }],
      Tags: ours,
    },
  };
  resources["MachineProfile"] = {
    Type: "AWS::IAM::InstanceProfile",
    Properties: { Roles: [ref("MachineRole")] },
  };
  outputs["MachineProfile"] = {
    Description: "Machines' instance profile",
    Value: ref("MachineProfile"),
  };
}

/** The tags that every stack of ours has. */
export function stackTags({
  installation,
}: StackOptions): readonly { Key: string; Value: string }[] {
  return [
    { Key: stackTag, Value: stackVersion },
    ...(installation === null ? [] : [{ Key: tags.installation, Value: installation }]),
  ];
}
