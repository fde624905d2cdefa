import { tags } from "../instances.ts";
import {
  attribute,
  joined,
  policy,
  ref,
  sub,
  trusts,
  zone,
  type Json,
  type Output,
  type Resource,
  type Template,
  type Value,
} from "./cloudformation.ts";
import {
  imagePermissions,
  machineStatements,
  managerPermissions,
  statementsOf,
  type Scope,
} from "./permissions.ts";

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

type Resources = Record<string, Resource>;
type Outputs = Record<string, Output>;

const day = 24 * 3600;
/** Above this an event that can never be taken would go round for ever; it goes to the dead letters. */
const deliveriesMax = 100;

/**
 * The template of everything that Mayfly needs at AWS. Nothing in it has a name of its own, so that
 * an account may have several of it. `handler` is the source of the front.
 */
export function synthesise(options: StackOptions, handler: string): Template {
  const resources: Resources = {};
  const outputs: Outputs = {};
  const subnets = network(options.zones, resources, outputs);
  const scope: Scope = {
    installation: options.installation,
    subnets: subnets.map(ref),
    securityGroup: ref("MachineGroup"),
    machineRole: options.parameter ? attribute("MachineRole", "Arn") : null,
    queue: options.front === null ? null : attribute("FrontQueue", "Arn"),
  };
  if (options.parameter) machineRole(scope, resources, outputs);
  if (options.front !== null) front(options.front, handler, resources, outputs);
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

/** The stack's own tags are given to all that is in it, beside this one. */
const ours: Json = [{ Key: "Name", Value: sub("${AWS::StackName}") }];

/** It goes with its stack: what was in it is known to the forge, and polled from there. */
const transient = { DeletionPolicy: "Delete", UpdateReplacePolicy: "Delete" } as const;

/** Public subnets, since a NAT gateway costs by the hour; nothing is let in. Gives their names here. */
function network(zones: number, resources: Resources, outputs: Outputs): readonly string[] {
  const add = (name: string, type: Resource["Type"], properties: Resource["Properties"]) => {
    resources[name] = { Type: type, Properties: properties };
  };
  add("Network", "AWS::EC2::VPC", {
    CidrBlock: "10.64.0.0/16",
    EnableDnsSupport: true,
    EnableDnsHostnames: true,
    Tags: ours,
  });
  add("Gateway", "AWS::EC2::InternetGateway", { Tags: ours });
  const vpc = ref("Network");
  const gateway = ref("Gateway");
  add("GatewayAttachment", "AWS::EC2::VPCGatewayAttachment", {
    VpcId: vpc,
    InternetGatewayId: gateway,
  });
  add("Routes", "AWS::EC2::RouteTable", { VpcId: vpc, Tags: ours });
  const routes = ref("Routes");
  resources["WayOut"] = {
    Type: "AWS::EC2::Route",
    DependsOn: "GatewayAttachment",
    Properties: {
      RouteTableId: routes,
      DestinationCidrBlock: "0.0.0.0/0",
      GatewayId: gateway,
    },
  };
  const subnets = Array.from({ length: zones }, (_, n) => `Subnet${n + 1}`);
  for (const [n, name] of subnets.entries()) {
    add(name, "AWS::EC2::Subnet", {
      VpcId: vpc,
      AvailabilityZone: zone(n),
      // 4,091 machines in each.
      CidrBlock: `10.64.${n * 16}.0/20`,
      MapPublicIpOnLaunch: true,
      Tags: ours,
    });
    add(`${name}Routes`, "AWS::EC2::SubnetRouteTableAssociation", {
      SubnetId: ref(name),
      RouteTableId: routes,
    });
  }
  const group = (name: string, what: string, ports: readonly number[] | null): void =>
    add(name, "AWS::EC2::SecurityGroup", {
      VpcId: vpc,
      GroupDescription: what,
      SecurityGroupEgress: (ports ?? [null]).map((port) => ({
        CidrIp: "0.0.0.0/0",
        Description: port === null ? "Out to anywhere" : `Out to port ${port}`,
        IpProtocol: port === null ? "-1" : "tcp",
        ...(port === null ? {} : { FromPort: port, ToPort: port }),
      })),
      Tags: ours,
    });
  group("MachineGroup", "Machines of jobs: out only", null);
  group("ImageGroup", "Machines that images are made or tried on: out to the web only", [80, 443]);
  outputs["Network"] = { Description: "The network", Value: ref("Network") };
  outputs["Subnets"] = { Description: "Where machines are", Value: joined(subnets.map(ref)) };
  outputs["SecurityGroup"] = { Description: "Machines' group", Value: ref("MachineGroup") };
  outputs["ImageSecurityGroup"] = {
    Description: "The group of machines that images are made on",
    Value: ref("ImageGroup"),
  };
  return subnets;
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

/** A function behind a URL of its own that puts what it is sent into a queue, and can do nothing else. */
function front(atOnce: number, handler: string, resources: Resources, outputs: Outputs): void {
  const queue = (properties: Resource["Properties"]): Resource => ({
    ...transient,
    Type: "AWS::SQS::Queue",
    Properties: {
      // The longest there is.
      MessageRetentionPeriod: 14 * day,
      SqsManagedSseEnabled: true,
      ...properties,
      Tags: ours,
    },
  });
  resources["FrontDeadLetters"] = queue({});
  resources["FrontQueue"] = queue({
    ReceiveMessageWaitTimeSeconds: 20,
    VisibilityTimeout: 60,
    RedrivePolicy: {
      deadLetterTargetArn: attribute("FrontDeadLetters", "Arn"),
      maxReceiveCount: deliveriesMax,
    },
  });
  resources["FrontLog"] = {
    ...transient,
    Type: "AWS::Logs::LogGroup",
    Properties: { RetentionInDays: 7, Tags: ours },
  };
  const log = attribute("FrontLog", "Arn");
  resources["FrontRole"] = {
    Type: "AWS::IAM::Role",
    Properties: {
      AssumeRolePolicyDocument: trusts("lambda.amazonaws.com"),
      Policies: [
        {
          PolicyName: "front",
          PolicyDocument: policy([
            {
              Effect: "Allow",
              Action: "sqs:SendMessage",
              Resource: attribute("FrontQueue", "Arn"),
            },
            {
              Effect: "Allow",
              Action: ["logs:CreateLogStream", "logs:PutLogEvents"],
              Resource: log,
            },
          ]),
        },
      ],
      Tags: ours,
    },
  };
  resources["Front"] = {
    Type: "AWS::Lambda::Function",
    Properties: {
      Description: "Stores webhooks for Mayfly",
      Runtime: "nodejs24.x",
      Architectures: ["arm64"],
      Handler: "index.handler",
      Code: { ZipFile: handler },
      Role: attribute("FrontRole", "Arn"),
      MemorySize: 256,
      // A forge waits ten seconds at most.
      Timeout: 8,
      ...(atOnce === 0 ? {} : { ReservedConcurrentExecutions: atOnce }),
      Environment: { Variables: { QUEUE_URL: ref("FrontQueue") } },
      // Lines of each call would be the dearest part of a flood.
      LoggingConfig: {
        LogGroup: ref("FrontLog"),
        LogFormat: "JSON",
        SystemLogLevel: "WARN",
        ApplicationLogLevel: "WARN",
      },
      Tags: ours,
    },
  };
  const name = ref("Front");
  resources["FrontUrl"] = {
    Type: "AWS::Lambda::Url",
    Properties: { TargetFunctionArn: name, AuthType: "NONE" },
  };
  // A URL needs both since October 2025.
  resources["FrontUrlPermission"] = {
    Type: "AWS::Lambda::Permission",
    Properties: {
      FunctionName: name,
      Action: "lambda:InvokeFunctionUrl",
      Principal: "*",
      FunctionUrlAuthType: "NONE",
    },
  };
  resources["FrontCallPermission"] = {
    Type: "AWS::Lambda::Permission",
    Properties: {
      FunctionName: name,
      Action: "lambda:InvokeFunction",
      Principal: "*",
      InvokedViaFunctionUrl: true,
    },
  };
  const told: Record<string, readonly [string, Value]> = {
    FrontUrl: ["Where forges send webhooks", attribute("FrontUrl", "FunctionUrl")],
    FrontQueue: ["Where Mayfly takes them from", ref("FrontQueue")],
    FrontDeadLetters: ["What could never be taken", ref("FrontDeadLetters")],
  };
  for (const [key, [Description, Value]] of Object.entries(told)) {
    outputs[key] = { Description, Value };
  }
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
