import type { IncomingMessage } from "node:http";
import { isIP } from "node:net";

/**
 * Who sent a request: our peer, or who that says when it is a proxy on this machine. Such a proxy
 * adds the address it saw to the end of the list; what stands before that anybody may have written.
 */
export function addressOf({ socket, headers }: IncomingMessage): string | null {
  const peer = socket.remoteAddress?.replace(/^::ffff:/, "") ?? null;
  const isOwn = peer === null || peer === "::1" || peer.startsWith("127.");
  const forwarded = String(headers["x-forwarded-for"] ?? "").split(",");
  const last = forwarded.at(-1)?.trim() ?? "";
  return isOwn && isIP(last) !== 0 ? last : peer;
}
