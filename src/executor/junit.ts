/*
 * Test reports in the JUnit dialect: what is common to all that write it, read leniently, since
 * there is no standard and a report that is cut short still says something.
 */

export interface TestCase {
  readonly name: string;
  readonly suite: string;
  readonly outcome: "passed" | "failed" | "error" | "skipped";
  readonly seconds: number | null;
  /** What the report says of a failure, its first line. */
  readonly message: string;
}

const casesMax = 100_000;
const messageLengthMax = 500;

/** The cases of a report, in its order; null: it is no JUnit report. */
export function readJunit(xml: string): TestCase[] | null {
  if (!/<testsuites?[\s>/]/.test(xml)) return null;
  const cases: TestCase[] = [];
  let open: { name: string; suite: string; seconds: number | null } | null = null;
  let outcome: TestCase["outcome"] = "passed";
  let message = "";
  let textFrom: number | null = null;
  const close = (): void => {
    if (open !== null) cases.push({ ...open, outcome, message });
    [open, outcome, message] = [null, "passed", ""];
  };
  const tokens =
    /<!--[\s\S]*?-->|<!\[CDATA\[[\s\S]*?\]\]>|<(\/?)([A-Za-z_:][\w:.-]*)((?:[^<>"']|"[^"]*"|'[^']*')*?)(\/?)>/g;
  for (const { 0: token, 1: slash, 2: tag = "", 3: inner = "", 4: empty, index } of xml.matchAll(
    tokens,
  )) {
    if (cases.length >= casesMax) break;
    if (tag === "testcase") {
      close();
      if (slash === "/") continue;
      open = {
        name: attribute(inner, "name") ?? "(without a name)",
        suite: attribute(inner, "classname") ?? "",
        seconds: secondsOf(attribute(inner, "time")),
      };
      if (empty === "/") close();
    } else if (open !== null && /^(failure|error|skipped)$/.test(tag)) {
      if (slash === "/") {
        if (message === "" && textFrom !== null) message = firstLine(xml.slice(textFrom, index));
        textFrom = null;
        continue;
      }
      // The first of them counts: a failure may be followed by an error in its clean-up.
      if (outcome !== "passed") continue;
      outcome = tag === "failure" ? "failed" : tag === "error" ? "error" : "skipped";
      message = firstLine(attribute(inner, "message") ?? "");
      textFrom = empty === "/" ? null : index + token.length;
    }
  }
  close();
  return cases;
}

function attribute(inner: string, name: string): string | null {
  const found = new RegExp(`(?:^|\\s)${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)')`).exec(inner);
  return found === null ? null : unescape(found[1] ?? found[2] ?? "");
}

function secondsOf(text: string | null): number | null {
  const seconds = Number(text ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds : null;
}

function firstLine(text: string): string {
  const plain = unescape(text.replace(/^\s*<!\[CDATA\[([\s\S]*?)\]\]>[\s\S]*$/, "$1"));
  return (plain.trim().split("\n")[0] ?? "").slice(0, messageLengthMax);
}

const entities: Readonly<Record<string, string>> = {
  amp: "&",
  lt: "<",
  gt: ">",
  quot: '"',
  apos: "'",
};

function unescape(text: string): string {
  return text.replaceAll(
    /&(?:#(\d{1,7})|#x([0-9a-f]{1,6})|([a-z]+));/gi,
    (whole, dec, hex, word) => {
      if (typeof word === "string") return entities[word] ?? whole;
      const code = typeof dec === "string" ? Number(dec) : Number.parseInt(String(hex), 16);
      return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
    },
  );
}
