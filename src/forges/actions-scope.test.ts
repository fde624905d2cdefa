import assert from "node:assert/strict";
import { test } from "node:test";
import { actionsPath, parseScope, repositoryPath, scopeOption } from "./actions-scope.ts";

test("each scope has its place in the API", () => {
  const places: readonly (readonly [string | undefined, string])[] = [
    ["acme", "/api/v1/orgs/acme/actions"],
    ["acme/rocket.js", "/api/v1/repos/acme/rocket.js/actions"],
    ["@me", "/api/v1/user/actions"],
    ["@server", "/api/v1/admin/actions"],
    [undefined, "/api/v1/admin/actions"],
  ];
  for (const [scope, path] of places) {
    assert.equal(actionsPath(parseScope(scopeOption.parse(scope))), path);
  }
});

test("nothing that would be another place is a scope or a repository", () => {
  const refused = ["", "a/b/c", "../admin", "acme/..", ".", "a b", "a?b", "a%2fb", "@you", "a/"];
  for (const scope of refused) assert.ok(!scopeOption.safeParse(scope).success, scope);
  for (const name of [...refused, "acme"]) assert.equal(repositoryPath(name), null, name);
  assert.equal(repositoryPath("acme/rocket"), "/api/v1/repos/acme/rocket");
});
