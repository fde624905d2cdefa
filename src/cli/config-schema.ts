import { jsonSchema } from "../config/reference.ts";
import { exit } from "./exit.ts";
import { kinds } from "./setting.ts";
import { print } from "./terminal.ts";

/** `mayfly config schema`: the JSON Schema of mayfly.yaml, for editors. */
export async function run(): Promise<number> {
  await print(JSON.stringify(jsonSchema(kinds), null, 2));
  return exit.ok;
}
