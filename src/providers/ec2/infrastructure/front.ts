import {
  attribute,
  ours,
  policy,
  ref,
  trusts,
  type Outputs,
  type Resource,
  type Resources,
  type Value,
} from "./cloudformation.ts";

const day = 24 * 3600;
/** Above this an event that can never be taken would go round for ever; it goes to the dead letters. */
const deliveriesMax = 100;

/** It goes with its stack: what was in it is known to the forge, and polled from there. */
const transient = { DeletionPolicy: "Delete", UpdateReplacePolicy: "Delete" } as const;

/**
 * A function behind a URL of its own that puts what it is sent into a queue, and can do nothing
 * else. `handler` is its source; `atOnce`: how often it runs at once, 0: as the account lets it.
 */
export function addFront(
  atOnce: number,
  handler: string,
  resources: Resources,
  outputs: Outputs,
): void {
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
