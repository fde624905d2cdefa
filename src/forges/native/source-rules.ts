import { realpath } from "node:fs/promises";
import { isAbsolute, join, sep } from "node:path";
import { MayflyError } from "../../domain/errors.ts";
import { addressLengthMax, revisionLengthMax } from "../../domain/native-work.ts";
import { listed, quote } from "../../domain/words.ts";

/** Where repositories may be fetched from. */
export interface SourcePolicy {
  /** Of URLs: `https`, `ssh`, `git`, `http`. */
  readonly schemes: readonly string[];
  /** Folders below which repositories may be named by their path. */
  readonly paths: readonly string[];
}

export const defaultSchemes: readonly string[] = ["https", "ssh", "git"];
export const knownSchemes = ["https", "ssh", "git", "http"] as const;

/** A repository's address, safe to hand to git. */
export interface Address {
  /** A URL, or an absolute path: in neither case can git take it for an option. */
  readonly text: string;
  /** The one protocol git may speak for it. */
  readonly protocol: string;
}

/**
 * Reads a repository's address: `https://host/path`, `ssh://user@host/path`, `user@host:path`, or an
 * absolute path. Throws `invalid` for what is none, `forbidden` for what the policy does not allow.
 */
export async function readAddress(text: string, policy: SourcePolicy): Promise<Address> {
  checkPlain("source.url", text, addressLengthMax);
  if (isAbsolute(text)) return { text: await allowedPath(text, policy), protocol: "file" };
  const url = parseUrl(text);
  const scheme = url.protocol.slice(0, -1);
  if (!policy.schemes.includes(scheme)) {
    const allowed = listed(policy.schemes.map((known) => `${known}://`));
    throw new MayflyError("forbidden", `repositories are not fetched by ${quote(scheme)} here`, {
      where: "source.url",
      hint: `Allowed is ${allowed || "none"}; for a folder of this machine, upload its tree instead.`,
    });
  }
  if (url.password !== "" || (url.username !== "" && scheme !== "ssh")) {
    throw invalid("source.url", "it holds a password, which would be stored and shown", {
      hint: "Let Mayfly's user fetch it by ssh with a key of its own, or upload the tree.",
    });
  }
  return { text: url.href, protocol: scheme };
}

/** `user@host:path` is ssh; everything else must be a URL with a host. */
function parseUrl(text: string): URL {
  const [, user, host, path] = /^([\w.-]+)@([\w.-]+):(?!\/\/)(.+)$/.exec(text) ?? [];
  const written =
    user === undefined || host === undefined || path === undefined
      ? text
      : `ssh://${user}@${host}/${path.replace(/^\//, "")}`;
  const isWhole = /^[a-z][a-z0-9+.-]*:\/\/[^/]/i.test(written);
  const url = isWhole && URL.canParse(written) ? new URL(written) : null;
  // `ext::sh -c …` is a URL without a host.
  const isHost = /^(?!-)[\w.-]+$|^\[[0-9a-f:.]+\]$/i.test(url?.hostname ?? "");
  const isUser = /^(?!-)[\w.+-]*$/.test(url?.username ?? "");
  if (url === null || !isHost || !isUser) {
    throw invalid("source.url", `${quote(text)} is no address of a repository`, {
      hint: "Write https://host/path, ssh://user@host/path, user@host:path or an absolute path.",
    });
  }
  return url;
}

async function allowedPath(text: string, { paths }: SourcePolicy): Promise<string> {
  const refusal = new MayflyError("forbidden", `repositories in ${quote(text)} are not read here`, {
    where: "source.url",
    hint: "Allow its folder under `paths` of the native forge, or upload the tree instead.",
  });
  const resolved = await realpath(text).catch(() => null);
  for (const path of paths) {
    const root = await realpath(path).catch(() => null);
    if (root === null) continue;
    if (resolved === null && `${join(text)}${sep}`.startsWith(`${root}${sep}`)) {
      throw new MayflyError("not_found", `there is no repository ${quote(text)}`, {
        where: "source.url",
      });
    }
    if (resolved === root || resolved?.startsWith(`${root}${sep}`) === true) return resolved;
  }
  throw refusal;
}

/**
 * Throws `invalid` unless this is a branch, a tag, `HEAD` or a commit's full id, by git's own rules
 * for names of references (git-check-ref-format(1)) and no leading dash.
 */
export function checkRevision(text: string): void {
  checkPlain("source.revision", text, revisionLengthMax);
  const isName =
    !/[\s~^:?*[\\]|\.\.|@\{|\/\/|\.lock(?:\/|$)/.test(text) &&
    !/^[-/.+]|[/.]$|\/\./.test(text) &&
    text !== "@";
  if (isName) return;
  throw invalid("source.revision", `${quote(text)} is no branch, tag or commit`, {
    hint: "Write a branch, a tag, HEAD, or a commit's id in full.",
  });
}

function checkPlain(where: string, text: string, lengthMax: number): void {
  if (text === "") throw invalid(where, "it is empty");
  if (text.length > lengthMax) {
    throw invalid(where, `it has ${text.length} characters, at most ${lengthMax} are read`);
  }
  if (!text.isWellFormed() || /[\p{Cc}\p{Zl}\p{Zp}]/u.test(text)) {
    throw invalid(where, "it holds a control character");
  }
}

function invalid(where: string, message: string, more: { hint?: string } = {}): MayflyError {
  return new MayflyError("invalid", message, { where, ...more });
}
