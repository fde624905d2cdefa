import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { paint, plainLook } from "./ansi.ts";

async function html(text: string, look = plainLook): Promise<string> {
  return (await paint(text, look).html).toString();
}

/** The text that a browser would show. */
function shown(markup: string): string {
  const named: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', "#39": "'" };
  return markup
    .replaceAll(/<[^>]*>/g, "")
    .replaceAll(/&(lt|gt|amp|quot|#39);/g, (_, name: string) => named[name] ?? "");
}

test("colours and weights become classes, and end where they end", async () => {
  assert.equal(await html("a \x1b[31mred\x1b[0m b"), 'a <span class="ink-1">red</span> b');
  assert.equal(await html("\x1b[1;92mok\x1b[m"), '<span class="ink-10 bold">ok</span>');
  assert.equal(await html("\x1b[4mu\x1b[24mn"), '<span class="underlined">u</span>n');
  assert.equal(await html("\x1b[7mx"), '<span class="inverse">x</span>');
  assert.equal(await html("\x1b[31;7mx"), '<span class="paper-1">x</span>');
});

test("what a line leaves on, the next one has", async () => {
  const { look } = paint("\x1b[33mone", plainLook);
  assert.equal(await html("two", look), '<span class="ink-3">two</span>');
});

test("256 colours and true colour go to the nearest of sixteen", async () => {
  assert.equal(await html("\x1b[38;5;9mx"), '<span class="ink-9">x</span>');
  assert.equal(await html("\x1b[38;5;196mx"), '<span class="ink-9">x</span>');
  assert.equal(await html("\x1b[38;2;0;0;180mx"), '<span class="ink-4">x</span>');
  assert.equal(await html("\x1b[48;2;250;250;250mx"), '<span class="paper-15">x</span>');
  assert.equal(await html("\x1b[38;5;244;1mx"), '<span class="ink-8 bold">x</span>');
});

test("everything else a terminal would do is dropped", async () => {
  assert.equal(
    await html(
      "\x1b[2J\x1b[1;1Ha\x1b]0;title\x07b\x1b]8;;javascript:alert(1)\x1b\\c\x1b]8;;\x1b\\",
    ),
    "abc",
  );
  assert.equal(await html("a\x00\x07\x08b\x7f\x9bc"), "abc");
  assert.equal(await html("cut \x1b["), "cut ");
  assert.equal(await html("cut \x1b]0;never ends"), "cut ");
});

test("markup in output stays text", async () => {
  assert.equal(
    await html('<script>alert("1")</script>\x1b[31m<img src=x onerror=alert(1)>'),
    '&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;<span class="ink-1">&lt;img src=x onerror=alert(1)&gt;</span>',
  );
});

test("whatever bytes come, only our own spans are markup and no other text is lost", async () => {
  const piece = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.constantFrom(
      "\x1b[",
      "31",
      "m",
      ";",
      "\x1b]",
      "<b>",
      '"',
      "&amp;",
      "\x07",
      "38;5;",
      "38;2;1;2",
    ),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(piece, { maxLength: 30 }), async (pieces) => {
      const markup = await html(pieces.join(""));
      for (const [tag] of markup.matchAll(/<[^>]*>/g)) {
        assert.match(tag, /^<(\/span|span class="[a-z0-9 -]+")>$/);
      }
      // oxlint-disable-next-line no-control-regex -- none may be left
      assert.doesNotMatch(shown(markup), /[\x00-\x08\x0b-\x1f]/);
    }),
  );
  const plain = fc.string({ unit: fc.constantFrom("a", "<", "&", '"', "'", ">", " ", "é") });
  await fc.assert(
    fc.asyncProperty(plain, async (text) => assert.equal(shown(await html(text)), text)),
  );
});
