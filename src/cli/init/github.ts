import { setTimeout as sleep } from "node:timers/promises";
import { MayflyError } from "../../domain/errors.ts";
import { parseAddress, type Address } from "../../forges/github/address.ts";
import { Client } from "../../forges/github/client.ts";
import { newSecret } from "../chance.ts";
import { makeApp, permissionsFor } from "./manifest.ts";
import { askName, secretFrom, type Asked, type Asking, type Setup } from "./setup.ts";

const installMs = 15 * 60_000;
const lookMs = 3_000;

/** Asks for an address, and for a token or to make a GitHub App with just the rights that it needs. */
export const githubSetup: Setup = {
  labels: ["self-hosted", "linux", "x64"],
  ask: async (asking) => {
    const { prompter, flags } = asking;
    const text = await prompter.ask(
      {
        flag: "--url",
        text: "The organisation or repository, such as https://github.com/acme",
        fallback: null,
        check: (given) => faultOf(given),
      },
      flags.url,
    );
    const address = parseAddress(text);
    if (flags.token !== undefined) return byToken(asking, address);
    if (address.scope.kind === "enterprise") {
      throw new MayflyError("invalid", "an App cannot serve a whole enterprise", {
        where: "--url",
        hint: "Give a classic token with manage_runners:enterprise: --token env:NAME.",
      });
    }
    return byApp(asking, address);
  },
};

function faultOf(text: string): string | null {
  try {
    parseAddress(text);
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

async function byToken(asking: Asking, address: Address): Promise<Asked> {
  const { prompter, flags, reach } = asking;
  const token = await secretFrom(prompter, flags.token, { flag: "--token", text: "The token" });
  const secret = reach === null ? null : newSecret();
  return {
    name: await askName(asking, lastPart(address)),
    options: { url: address.url },
    secrets: { token, ...(secret === null ? {} : { secret }) },
    finish: async ({ name, say }) => {
      if (reach === null) return;
      say(`make a webhook at ${address.url}/settings/hooks to ${reach}/v1/forges/${name}/events,`);
      say(`  with “Workflow jobs”, JSON, and the secret of secrets/${name}-secret`);
    },
  };
}

async function byApp(asking: Asking, address: Address): Promise<Asked> {
  const { flags, reach, say, signal } = asking;
  const name = await askName(asking, lastPart(address));
  const port = Number(flags.port ?? 0);
  const rerun = flags.rerun === true;
  const hook = reach === null ? null : `${reach}/v1/forges/${name}/events`;
  const show = (url: string): void => {
    const rights = Object.entries(permissionsFor(address, { rerun })).map((each) => each.join(" "));
    say(`open ${url} in a browser on this machine, and make the App (${rights.join(", ")})`);
  };
  const options = { name: `mayfly-${name}`.slice(0, 34), reach: hook, rerun, port };
  const app = await makeApp(address, options, show, fetch, signal);
  say(`made the App; now install it: ${app.url}/installations/new`);
  await installed(address, app, signal);
  say("it is installed");
  return {
    name,
    options: { url: address.url, app: app.id },
    secrets: {
      key: app.key,
      ...(hook === null || app.secret === null ? {} : { secret: app.secret }),
    },
    finish: async () => {},
  };
}

/** Until the App has an installation for the address. */
async function installed(
  address: Address,
  { id, key }: { readonly id: number; readonly key: string },
  signal: AbortSignal,
): Promise<void> {
  const credential = { kind: "app", app: String(id), key, installation: null } as const;
  const until = AbortSignal.any([signal, AbortSignal.timeout(installMs)]);
  for (;;) {
    const parts = { address, credential, fetch, now: () => Date.now(), expires: () => {} };
    try {
      await new Client(parts).token(until);
      return;
    } catch (error) {
      if (until.aborted || !(error instanceof MayflyError) || error.code !== "not_found") {
        throw error;
      }
    }
    await sleep(lookMs, undefined, { signal: until });
  }
}

function lastPart({ url }: Address): string {
  return url.split("/").at(-1) ?? "github";
}
