import assert from "node:assert/strict";
import test from "node:test";
import { MayflyError } from "../domain/errors.ts";
import { readZeroCi } from "./zeroci-file.ts";

test("the third generation: jobs", () => {
  const [first, second] = readZeroCi(`
jobs:
  - name: build
    prerequisites: { image_name: "threefolddev/jsx:10.0", shell_bin: /bin/bash }
    install: |
      apt-get update
      apt-get install x
    script:
      - name: Unit
        cmd: make unit
      - name: Neph
        type: neph
        working_dir: /zeroci/code/it's here
        yaml_path: ci.yaml
    bin_path: bin/tool
  - name: second
    script: [{ cmd: "true" }]
`);
  assert.deepEqual(first, {
    name: "build",
    image: "threefolddev/jsx:10.0",
    shell: "/bin/bash",
    install: "apt-get update\napt-get install x\n",
    steps: [
      { name: "Unit", command: "make unit" },
      {
        name: "Neph",
        command: `cd -- '/zeroci/code/it'\\''s here' && PATH=$PATH:/zeroci/bin neph -y 'ci.yaml' -m CI`,
      },
    ],
    binary: "bin/tool",
    prerequisites: [],
  });
  assert.deepEqual([second?.name, second?.image, second?.shell], ["second", null, "/bin/sh"]);
  assert.deepEqual(second?.steps, [{ name: "true", command: "true" }]);
});

test("the second: one job, with imageName", () => {
  const [job, ...more] = readZeroCi(`
prerequisites: { imageName: ubuntu:18.04 }
install: pip install .
script: [{ name: t, cmd: pytest }]
`);
  assert.equal(more.length, 0);
  assert.equal(job?.image, "ubuntu:18.04");
  assert.equal(job?.install, "pip install .");
});

test("the first: lists of commands, and its misspelt prerequisites", () => {
  const [job] = readZeroCi(`
prerequisties: [jsx, docker]
install: ["a", "b"]
script: ["c d", "e"]
`);
  assert.deepEqual(job?.prerequisites, ["jsx", "docker"]);
  assert.equal(job?.install, "a\nb");
  assert.deepEqual(
    job?.steps.map(({ command }) => command),
    ["c d", "e"],
  );
});

const broken: readonly (readonly [text: string, where: string, what: RegExp])[] = [
  ["jobs: [\n", "zeroCI.yaml:2:1", /./],
  ["install: x\n", "zeroCI.yaml:1:1", /"script" is missing/],
  ["script: []\n", "zeroCI.yaml:1:9", /there is no step/],
  ["script:\n  - nam: x\n    cmd: y\n", "zeroCI.yaml:2:10", /unknown key "nam"/],
  ["script:\n  - name: x\n", "zeroCI.yaml:2:5", /"cmd" is missing/],
  ["script:\n  - [a]\n", "zeroCI.yaml:2:5", /keys with values/],
  ["jobs: 3\n", "zeroCI.yaml:1:7", /no list/],
  ["", "zeroCI.yaml:1:1", /keys with values/],
  ["- a\n", "zeroCI.yaml:1:1", /keys with values/],
  ["script: [a]\nprerequisites: x\n", "zeroCI.yaml:2:16", /keys with values/],
  ["script: [a]\ninstall: {a: b}\n", "zeroCI.yaml:2:10", /must be text/],
  ["jobs:\n" + "  - script: [a]\n".repeat(4), "zeroCI.yaml:5:5", /4 jobs/],
];

for (const [text, where, what] of broken) {
  test(`refused at ${where}: ${JSON.stringify(text.slice(0, 30))}`, () => {
    assert.throws(
      () => readZeroCi(text),
      (error) => {
        assert.ok(error instanceof MayflyError, String(error));
        assert.equal(error.where, where);
        assert.match(error.message, what);
        assert.ok(error.hint);
        return true;
      },
    );
  });
}

test("an alias bomb ends early", () => {
  const lines = ["a: &a [x, x]"];
  for (const [from, to] of ["ab", "bc", "cd", "de", "ef", "fg", "gh"].map((pair) =>
    pair.split(""),
  )) {
    lines.push(`${to}: &${to} [*${from}, *${from}, *${from}, *${from}, *${from}, *${from}]`);
  }
  assert.throws(() => readZeroCi(`${lines.join("\n")}\nscript: *h\n`), MayflyError);
});
