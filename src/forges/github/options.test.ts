import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MayflyError } from "../../domain/errors.ts";
import { isWithin, parseAddress } from "./address.ts";
import { githubOptions } from "./options.ts";

const token = "env:T";

test("an address names its scope and its server's API", () => {
  const cases = {
    "https://github.com/acme": ["https://api.github.com", "/orgs/acme", true],
    "https://www.github.com/acme/": ["https://api.github.com", "/orgs/acme", true],
    "https://github.com/acme/widget": ["https://api.github.com", "/repos/acme/widget", true],
    "https://github.com/enterprises/big": ["https://api.github.com", "/enterprises/big", true],
    "https://acme.ghe.com/acme": ["https://api.acme.ghe.com", "/orgs/acme", true],
    "https://git.acme.org/acme": ["https://git.acme.org/api/v3", "/orgs/acme", false],
    "https://git.acme.org:8443/a/b": ["https://git.acme.org:8443/api/v3", "/repos/a/b", false],
    "http://127.0.0.1:3000/acme": ["http://127.0.0.1:3000/api/v3", "/orgs/acme", false],
  } as const;
  for (const [text, [api, path, isHosted]] of Object.entries(cases)) {
    const address = parseAddress(text);
    assert.deepEqual([address.api, address.path, address.isHosted], [api, path, isHosted], text);
  }
  assert.equal(parseAddress("https://www.github.com/acme/").url, "https://github.com/acme");
});

test("what is no address is refused, and nothing else is thrown", () => {
  const bad = [
    "",
    "acme",
    "github.com/acme",
    "http://github.com/acme",
    "https://github.com",
    "https://github.com/a/b/c",
    "https://github.com/enterprises",
    "https://x:y@github.com/acme",
    "https://github.com/acme?x=1",
    "https://github.com/ac%20me",
    "https://github.com/acme/%2e%2e",
  ];
  for (const text of bad) assert.throws(() => parseAddress(text), { code: "invalid" }, text);
  fc.assert(
    fc.property(fc.oneof(fc.webUrl(), fc.string(), fc.webPath()), (text) => {
      try {
        assert.doesNotMatch(parseAddress(text).path, /\.\.|\/\/|[^\w./-]/);
      } catch (error) {
        assert.ok(error instanceof MayflyError);
      }
    }),
  );
});

test("a scope has its own repositories only", () => {
  const org = parseAddress("https://github.com/Acme").scope;
  assert.ok(isWithin(org, "acme/Widget"));
  assert.ok(!isWithin(org, "acme2/widget"));
  const one = parseAddress("https://github.com/acme/widget").scope;
  assert.ok(isWithin(one, "ACME/widget"));
  assert.ok(!isWithin(one, "acme/widget2"));
});

test("options say what is wrong with them", () => {
  const url = "https://github.com/acme";
  const told = (options: object): string => {
    const result = githubOptions.safeParse({ url, ...options });
    return result.success ? "" : (result.error.issues[0]?.message ?? "");
  };
  assert.equal(told({ token }), "");
  assert.equal(told({ app: 1, key: token, installation: 2, secret: token }), "");
  assert.equal(told({ app: "Iv1.abc", key: token }), "");
  assert.match(told({}), /needs a credential/);
  assert.match(told({ app: 1 }), /needs its private key/);
  assert.match(told({ key: token, token }), /is of no App/);
  assert.match(told({ app: 1, key: token, token }), /beside an App/);
  assert.match(told({ token, by: ["scaleset"] }), /there is none/);
  assert.match(told({ token, by: ["webhook"] }), /nothing that signs/);
  assert.match(told({ token, url: "https://github.com" }), /names no repository/);
  assert.match(told({ token: "ghp_abc" }), /never written here/);
  assert.match(
    told({ token, programs: { "linux-x64": { url: "https://x/y", sha256: "0" } } }),
    /hexadecimal/,
  );
});
