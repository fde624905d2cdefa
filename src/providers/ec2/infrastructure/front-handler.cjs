"use strict";
/*
 * The front: takes a forge's webhook and puts it into the queue as it is. It knows no secret and
 * believes nobody: whether the signature is right is for Mayfly to say, over the same bytes.
 * It runs in Lambda behind a function URL (payload format 2.0), as CommonJS, with the AWS SDK that
 * Lambda's Node.js carries.
 */
const { SQSClient, SendMessageCommand } = require("@aws-sdk/client-sqs");

/** In base64 and with its headers it stays below the 1,048,576 bytes of a message. */
const bodyBytesMax = 700_000;
const headersBytesMax = 8_192;
const path = /^\/v1\/forges\/([a-z0-9][a-z0-9-]{0,30})\/events$/;
const kept = /^(content-type|x-(github|hub|gitea|forgejo|mayfly)-[a-z0-9-]{1,64})$/;

const client = new SQSClient({
  maxAttempts: 2,
  requestHandler: { connectionTimeout: 1_500, requestTimeout: 3_000, throwOnRequestTimeout: true },
});

function answer(statusCode, text) {
  const headers = { "content-type": "text/plain", "cache-control": "no-store" };
  return { statusCode, headers, body: `${text}\n` };
}

exports.handler = async (event) => {
  const { method, sourceIp } = event.requestContext.http;
  const forge = path.exec(event.rawPath ?? "")?.[1];
  if (forge === undefined) return answer(404, "webhooks go to /v1/forges/NAME/events");
  if (method !== "POST") return answer(405, "webhooks are sent by POST");
  const body = Buffer.from(event.body ?? "", event.isBase64Encoded ? "base64" : "utf8");
  if (body.length === 0) return answer(400, "there is no body");
  if (body.length > bodyBytesMax) return answer(413, `more than ${bodyBytesMax} bytes`);
  const headers = Object.fromEntries(
    Object.entries(event.headers ?? {}).filter(([name]) => kept.test(name)),
  );
  if (!("content-type" in headers)) return answer(400, "there is no content type");
  if (Buffer.byteLength(JSON.stringify(headers)) > headersBytesMax) {
    return answer(413, "the headers are too large");
  }
  const message = { version: 1, forge, headers, address: sourceIp, body: body.toString("base64") };
  const input = { QueueUrl: process.env.QUEUE_URL, MessageBody: JSON.stringify(message) };
  try {
    await client.send(new SendMessageCommand(input));
  } catch (error) {
    console.error(JSON.stringify({ error: String(error?.name), forge }));
    return answer(503, "the queue does not take it now; send it again");
  }
  return answer(202, "stored");
};
