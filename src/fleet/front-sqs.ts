import {
  DeleteMessageBatchCommand,
  GetQueueAttributesCommand,
  ReceiveMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import type { Secret } from "../domain/secret.ts";
import type { EventQueue, QueuedMessage } from "./front.ts";

/** A queue of Amazon's SQS, as the configuration names it. */
export interface SqsOptions {
  readonly queue: string;
  readonly region: string;
  /** Null: what AWS's SDK finds by itself. */
  readonly accessKey: { readonly id: Secret; readonly secret: Secret } | null;
}

/** The most that one call gives, and the longest that it waits for the first. */
const messagesMax = 10;
const waitSeconds = 20;
const connectMs = 10_000;
const answerMs = (waitSeconds + 10) * 1000;

/** The front's queue at Amazon. Says nothing to it yet. */
export function openSqs({ queue: QueueUrl, region, accessKey }: SqsOptions): SqsQueue {
  const client = new SQSClient({
    region,
    endpoint: new URL(QueueUrl).origin,
    maxAttempts: 2,
    requestHandler: {
      connectionTimeout: connectMs,
      requestTimeout: answerMs,
      throwOnRequestTimeout: true,
    },
    ...(accessKey === null
      ? {}
      : {
          credentials: {
            accessKeyId: accessKey.id.reveal(),
            secretAccessKey: accessKey.secret.reveal(),
          },
        }),
  });
  return {
    receive: async (signal) => {
      const command = new ReceiveMessageCommand({
        QueueUrl,
        MaxNumberOfMessages: messagesMax,
        WaitTimeSeconds: waitSeconds,
      });
      const { Messages = [] } = await client.send(command, { abortSignal: signal });
      return Messages.map(({ ReceiptHandle = "", Body = "" }) => ({
        receipt: ReceiptHandle,
        body: Body,
      }));
    },
    remove: async (messages: readonly QueuedMessage[]) => {
      const Entries = messages.map(({ receipt }, n) => ({ Id: `${n}`, ReceiptHandle: receipt }));
      // One that cannot be taken off comes again, and then is nothing new.
      await client.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
    },
    waiting: async (signal) => {
      const AttributeNames = ["ApproximateNumberOfMessages" as const];
      const command = new GetQueueAttributesCommand({ QueueUrl, AttributeNames });
      const { Attributes } = await client.send(command, { abortSignal: signal });
      return Number(Attributes?.["ApproximateNumberOfMessages"] ?? 0);
    },
    close: () => client.destroy(),
  };
}

export interface SqsQueue extends EventQueue {
  /** About how many messages wait. */
  waiting(signal: AbortSignal): Promise<number>;
}
