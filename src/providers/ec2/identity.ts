import { createPublicKey, verify, X509Certificate, type KeyObject } from "node:crypto";
import { z } from "zod";
import { ProviderError } from "../../domain/errors.ts";
import { publishedKey } from "./identity-keys.ts";
import type { Ec2Options } from "./options.ts";

/** A document has about 500 bytes and a signature 172. */
const documentBytesMax = 4 * 1024;
const signatureBytesMax = 1024;
/** Between what EC2 says of a launch and what the instance's own document says. */
const launchToleranceMs = 10 * 60_000;

const documentShape = z.object({
  instanceId: z.string().regex(/^i-[0-9a-f]{8,32}$/),
  accountId: z.string().regex(/^\d{12}$/),
  region: z.string(),
  pendingTime: z.string(),
});

/** What a machine's document says, AWS's signature of it having been verified. */
export interface Identity {
  readonly instanceId: string;
  readonly accountId: string;
  readonly region: string;
  readonly launchedAt: number;
}

/**
 * What documents of this region are verified by: the configured certificates' keys, or the one that
 * AWS published. None: they cannot be verified. Throws `invalid` for what is no RSA certificate.
 */
export function identityKeys(
  options: Pick<Ec2Options, "region" | "identityCertificate">,
): readonly KeyObject[] {
  const { region, identityCertificate } = options;
  if (identityCertificate !== undefined) return certificateKeys(identityCertificate.reveal());
  const key = publishedKey(region);
  return key === null ? [] : [createPublicKey({ key, format: "der", type: "spki" })];
}

function certificateKeys(text: string): readonly KeyObject[] {
  const where = "identityCertificate";
  const found = text.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  if (found.length === 0) throw new ProviderError("invalid", `${where}: no certificate in PEM`);
  return found.map((pem) => {
    const { publicKey } = readCertificate(pem);
    if (publicKey.asymmetricKeyType === "rsa") return publicKey;
    const why = "the DSA certificate is for another signature; take the one that AWS calls RSA";
    throw new ProviderError("invalid", `${where}: ${why}`);
  });
}

function readCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch {
    throw new ProviderError("invalid", "identityCertificate: a certificate cannot be read");
  }
}

/**
 * Reads what a machine shows: its document and the signature, each in base64, with a dot between
 * them. A string says why it proves nothing. The signature is RSA with SHA-256 over the document's
 * bytes (EC2 User Guide, "Verify the instance identity document"); as AWS advises there, the key
 * counts and not its certificate's dates.
 */
export function readIdentity(proof: string, keys: readonly KeyObject[]): Identity | string {
  if (proof === "" || proof === ".") return "it showed no identity document";
  const [, document = "", signature = ""] = /^([\w+/=]+)\.([\w+/=]+)$/.exec(proof) ?? [];
  const bytes = Buffer.from(document, "base64");
  const signed = Buffer.from(signature, "base64");
  if (bytes.length === 0 || signed.length === 0) return "what it showed is no identity document";
  if (bytes.length > documentBytesMax || signed.length > signatureBytesMax) {
    return "the identity document that it showed is too large";
  }
  if (!keys.some((key) => verify("sha256", bytes, key, signed))) {
    return "AWS did not sign the identity document that it showed";
  }
  const read = documentShape.safeParse(parse(bytes));
  const launchedAt = read.success ? Date.parse(read.data.pendingTime) : NaN;
  if (!read.success || !Number.isFinite(launchedAt)) {
    return "its identity document does not say which instance it is of";
  }
  const { instanceId, accountId, region } = read.data;
  return { instanceId, accountId, region, launchedAt };
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    return null;
  }
}

/** Why a document is not that of this instance; null: it is. */
export function mismatch(
  identity: Identity,
  instance: { readonly id: string; readonly account: string; readonly launchedAt: number },
): string | null {
  if (identity.instanceId !== instance.id) {
    return `it is ${identity.instanceId}, and the machine is ${instance.id}`;
  }
  if (identity.accountId !== instance.account) {
    return `it is of account ${identity.accountId}, and the machine of another`;
  }
  if (Math.abs(identity.launchedAt - instance.launchedAt) > launchToleranceMs) {
    return `its document is of a launch at another time: ${new Date(identity.launchedAt).toISOString()}`;
  }
  return null;
}
