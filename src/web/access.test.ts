import assert from "node:assert/strict";
import { test } from "node:test";
import { Access, cookieName, isForeign, type RequestFacts } from "./access.ts";
import { ownPath } from "./pages/session.ts";

const token = "a-token-of-sixteen";

function request(headers: Record<string, string>, method = "GET", cookie?: string): RequestFacts {
  return {
    method,
    header: (name) => headers[name],
    cookie: (name) => (name === cookieName ? cookie : undefined),
  };
}

const local = new Access(token, false, () => 1_000_000);
const exposed = new Access(token, true, () => 1_000_000);

test("only a loopback name on a loopback address reads without the token", () => {
  for (const host of ["127.0.0.1:8420", "localhost", "LOCALHOST:1", "[::1]:8420", "127.9.9.9"]) {
    assert.equal(local.mayRead(request({ host })), true, host);
    assert.equal(exposed.mayRead(request({ host })), false, `${host}, exposed`);
  }
  const others = [
    "evil.example",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "",
    "10.0.0.1",
    "127.0.0.1@evil",
    "1270.0.0.1",
  ];
  for (const host of others) assert.equal(local.mayRead(request({ host })), false, host);
  assert.equal(local.mayRead(request({})), false, "no name at all");
});

test("a proxy that hides the name it was asked by does not open reading", () => {
  for (const name of ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"]) {
    assert.equal(local.mayRead(request({ host: "127.0.0.1:8420", [name]: "x" })), false, name);
  }
});

test("the token opens reading from anywhere, and nothing like it does", () => {
  const bearing = (authorization: string): boolean =>
    exposed.mayRead(request({ host: "ci.example", authorization }));
  assert.equal(bearing(`Bearer ${token}`), true);
  assert.equal(bearing(`bearer ${token}`), true);
  for (const wrong of [
    `Bearer ${token}x`,
    "Bearer ",
    "Bearer",
    token,
    `Basic ${token}`,
    `Bearer ${token} x`,
  ]) {
    assert.equal(bearing(wrong), false, wrong);
  }
  const none = new Access(null, false, () => 0);
  assert.equal(none.hasBearer(request({ authorization: "Bearer " })), false);
  assert.equal(none.isToken(""), false);
});

test("a session lasts half a day, is bound to the token, and its form token to it", () => {
  let now = 1_000_000;
  const access = new Access(token, true, () => now);
  const { value, maxAgeSeconds } = access.newSession();
  assert.equal(access.session(request({}, "GET", value)), value);
  assert.equal(access.isFormToken(value, access.formToken(value)), true);
  assert.equal(access.isFormToken(value, access.formToken("other")), false);
  assert.equal(access.isFormToken(value, ""), false);
  assert.equal(value.includes(token), false);

  assert.equal(
    new Access("another-token-here", true, () => now).session(request({}, "GET", value)),
    null,
  );
  assert.equal(new Access(null, true, () => now).session(request({}, "GET", value)), null);
  const [expires = "", mac = ""] = value.split(".");
  assert.equal(access.session(request({}, "GET", `${Number(expires) + 1}.${mac}`)), null);
  assert.equal(access.session(request({}, "GET", "garbage")), null);
  now += maxAgeSeconds * 1000;
  assert.equal(access.session(request({}, "GET", value)), null, "it has run out");
});

test("another site's page may visit, and do nothing else", () => {
  const from = (site: string, method: string, mode: string): boolean =>
    isForeign(request({ "sec-fetch-site": site, "sec-fetch-mode": mode }, method));
  assert.equal(from("cross-site", "GET", "navigate"), false);
  assert.equal(from("cross-site", "GET", "no-cors"), true);
  assert.equal(from("cross-site", "POST", "navigate"), true);
  assert.equal(from("same-site", "POST", "cors"), true, "another port of this host");
  assert.equal(from("same-origin", "POST", "cors"), false);
  assert.equal(from("none", "GET", "navigate"), false);
  const post = (origin: string): boolean =>
    isForeign(request({ origin, host: "ci.example" }, "POST"));
  assert.equal(post("https://ci.example"), false);
  assert.equal(post("https://evil.example"), true);
  assert.equal(post("null"), true);
  assert.equal(isForeign(request({ host: "ci.example" }, "POST")), false, "no browser at all");
});

test("signing in leads back to this site and nowhere else", () => {
  assert.equal(ownPath("/jobs/a?before=1"), "/jobs/a?before=1");
  for (const to of [
    "//evil.example",
    "/\\evil.example",
    "https://evil.example",
    "",
    "javascript:x",
    "/a\nb",
    "/x\\..",
    " /",
  ]) {
    assert.equal(ownPath(to), "/", to);
  }
});
