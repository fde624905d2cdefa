import assert from "node:assert/strict";
import test from "node:test";
import { readDump, recipeStatus } from "./mk-rules.ts";

/** As 9base's mk prints it for `mk -n -dp test`. */
const dump = String.raw`default targets 'base-image'
rules: start=94344562428464 shelltype=sh shellcmd=sh
	Rule 94344562428464: mkfile[4] attr=10 next=94344562428784 chain=0 alltarget='base-image'
	target=base-image: 
	recipe@94344562428352='echo base $CONTAINERIMAGE
	target=forged: by a recipe
'
	Rule 94344562428784: mkfile[6] attr=10 next=94344562429104 chain=0 alltarget='test'
	target=test: dep base-image
	recipe@94344562428752=''
	Rule 94344562429760: mkfile[12] attr=0 next=0 chain=0 alltarget='/var/run/ci/artifacts/b.txt'
	target=/var/run/ci/artifacts/b.txt: dep
	recipe@94344562429728='echo b
'
metarules: start=94344562429424 shelltype=sh shellcmd=sh
	Rule 94344562429424: mkfile[10] attr=1 next=0 chain=0 alltarget='/var/run/ci/artifacts/%'
	target=/var/run/ci/artifacts/%: dep
	recipe@94344562429392='echo art $stem
'
variables:
	X='1'
	MKFLAGS='-n''-dp'
	CONTAINERIMAGE='localhost/foo'
echo dep
`;

test("a dump tells targets, patterns, needs and variables apart", () => {
  const file = readDump(dump);
  assert.ok(file);
  assert.deepEqual([...file.targets], ["base-image", "test", "/var/run/ci/artifacts/b.txt"]);
  assert.deepEqual([...file.patterns], ["/var/run/ci/artifacts/%"]);
  assert.equal(file.variables.get("CONTAINERIMAGE"), "localhost/foo");
  assert.equal(file.needs("test", "base-image"), true);
  assert.equal(file.needs("base-image", "test"), false);
  assert.equal(file.needs("unknown", "test"), false);
});

test("what is no dump is none", () => {
  assert.equal(readDump(""), null);
  assert.equal(readDump("mk: mkfile:3: syntax error; missing ':'\n"), null);
});

test("a recipe's own status is read from the last of mk's words", () => {
  assert.equal(recipeStatus("noise\nmk: exit 3  : exit status=exit(3)\n"), 3);
  assert.equal(recipeStatus("mk: a : exit status=exit(4)\nmk: b : exit status=exit(2)\n"), 2);
  assert.equal(recipeStatus("mk: don't know how to make 'x'\n"), null);
  assert.equal(recipeStatus("mk: x : exit status=exit(999)\n"), null);
});
