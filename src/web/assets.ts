import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";

/*
 * The few files a page needs besides itself. Each address holds the content's digest, so that
 * browsers may keep it for ever.
 */

export interface Asset {
  readonly path: string;
  readonly type: string;
  readonly bytes: Uint8Array;
}

function load(name: string, url: URL, type: string): Asset {
  const bytes = readFileSync(url);
  const digest = createHash("sha256").update(bytes).digest("hex").slice(0, 12);
  return { path: `/assets/${digest}/${name}`, type, bytes };
}

export const style = load(
  "style.css",
  new URL("./assets/style.css", import.meta.url),
  "text/css; charset=utf-8",
);
export const script = load(
  "live.js",
  new URL("./assets/live.js", import.meta.url),
  "text/javascript; charset=utf-8",
);
export const icon = load(
  "icon.svg",
  new URL("./assets/icon.svg", import.meta.url),
  "image/svg+xml",
);

export const assets: ReadonlyMap<string, Asset> = new Map(
  [style, script, icon].map((asset) => [asset.path, asset]),
);
