import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { gitlabTags, native, subset, subsetIgnoringCase, subsetNonEmpty } from "./label-rules.ts";

test("each forge has its own rule", () => {
  const offered = ["Linux", "x64"];
  for (const [asked, gitea, forgejo, github] of [
    [["Linux"], true, true, true],
    [["linux"], false, false, true],
    [["x64", "Linux"], true, true, true],
    [["Linux", "gpu"], false, false, false],
    [["Linux", "Linux"], true, true, true],
    [[], true, false, true],
  ] as const) {
    assert.equal(subset(asked, offered), gitea, `Gitea ${asked.join()}`);
    assert.equal(subsetNonEmpty(asked, offered), forgejo, `Forgejo ${asked.join()}`);
    assert.equal(subsetIgnoringCase(asked, offered), github, `GitHub ${asked.join()}`);
    assert.equal(native(asked, offered), github, `native ${asked.join()}`);
    assert.equal(gitlabTags(true)(asked, offered), gitea, `GitLab untagged ${asked.join()}`);
    assert.equal(gitlabTags(false)(asked, offered), forgejo, `GitLab ${asked.join()}`);
  }
});

test("a runner that offers more takes no fewer jobs", () => {
  const labels = fc.array(fc.constantFrom("a", "A", "b", "B", "c"), { maxLength: 4 });
  fc.assert(
    fc.property(labels, labels, labels, (asked, offered, more) => {
      for (const rule of [subset, subsetNonEmpty, subsetIgnoringCase]) {
        if (rule(asked, offered)) assert.ok(rule(asked, [...offered, ...more]));
        if (asked.length > 0) assert.ok(rule(asked, asked));
      }
    }),
  );
});
