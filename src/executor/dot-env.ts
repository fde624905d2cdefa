import { MayflyError } from "../domain/errors.ts";

const bytesMax = 256 * 1024;

/**
 * Reads a `.env` file: lines `NAME=value`, `export` before them or not, `#` for comments. A value
 * in single quotes is taken as it is; in double quotes \n, \", \\ and \$ mean what they do in a
 * shell. Nothing is expanded. Throws `invalid` with the file and line.
 */
export function parseDotEnv(text: string, file = ".env"): Map<string, string> {
  if (text.length > bytesMax) {
    throw new MayflyError("too_large", `it has more than ${bytesMax} bytes`, { where: file });
  }
  const found = new Map<string, string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const [, name, rest] =
      /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$/.exec(line) ?? [];
    const value = rest === undefined ? null : valueOf(rest.trimEnd());
    if (name === undefined || value === null) {
      // The line itself may hold a secret: it is not repeated.
      throw new MayflyError("invalid", "this line is no NAME=value", {
        where: `${file}:${index + 1}`,
        hint: "Write NAME=value; a value with blanks or # goes in quotes, on one line.",
      });
    }
    found.set(name, value);
  }
  return found;
}

function valueOf(text: string): string | null {
  const [, single] = /^'([^']*)'\s*(?:#.*)?$/.exec(text) ?? [];
  if (single !== undefined) return single;
  const [, double] = /^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/.exec(text) ?? [];
  if (double !== undefined) {
    return double.replaceAll(/\\([n"\\$])/g, (_, sign: string) => (sign === "n" ? "\n" : sign));
  }
  if (/^['"]/.test(text)) return null;
  return text.replace(/\s+#.*$/, "");
}
