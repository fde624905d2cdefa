import { registerHooks } from "node:module";
import { env } from "node:process";
import { mutations } from "./mutations.ts";

/*
 * Loaded before anything else (`node --import`), makes the mistake named in MAYFLY_MUTATION: the
 * files it is in are read with it.
 */
const name = env["MAYFLY_MUTATION"] ?? "";
const mutation = mutations[name];
if (mutation === undefined) throw new Error(`there is no mutation ${JSON.stringify(name)}`);

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    const edits = mutation.edits.filter(({ file }) => url.endsWith(`/src/${file}`));
    if (edits.length === 0 || loaded.source == null) return loaded;
    let text = Buffer.from(loaded.source as Uint8Array).toString();
    for (const { file, find, replace } of edits) {
      if (text.split(find).length !== 2) throw new Error(`${file} has not once: ${find}`);
      text = text.replace(find, () => replace);
    }
    return { ...loaded, source: text };
  },
});
