import { accessSync, constants, readFileSync } from "node:fs";
import { chromium, type Browser, type BrowserContext, type Page } from "playwright-core";

const executablePath = "/usr/bin/chromium";
/** For its start, and for each thing that is waited for in a page. */
const patienceMs = 120_000;

/** Why browser tests cannot run here; null: they can. */
export const chromiumMissing: string | null = missing();

function missing(): string | null {
  try {
    accessSync(executablePath, constants.X_OK);
    return null;
  } catch {
    return `${executablePath} is missing: install Debian's package chromium`;
  }
}

export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath,
    timeout: patienceMs,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** To be evaluated in a page: texts too faint for what lies behind them. */
export const faintTexts = readFileSync(new URL("faint-texts.js", import.meta.url), "utf8");

export interface Opened {
  readonly page: Page;
  readonly context: BrowserContext;
  /** Everything a page must never cause: errors, refused content, requests to elsewhere, dialogs. */
  readonly complaints: string[];
}

export async function openPage(
  browser: Browser,
  options: Parameters<Browser["newContext"]>[0] = {},
): Promise<Opened> {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(patienceMs);
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    const { url } = message.location();
    if (message.type() === "error") complaints.push(`console: ${message.text()} ${url}`);
  });
  page.on("pageerror", (error) => complaints.push(`page: ${error.message}`));
  page.on("dialog", (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    const { hostname } = new URL(request.url());
    if (hostname !== "127.0.0.1") complaints.push(`request: ${request.url()}`);
  });
  return { page, context, complaints };
}
