import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { bootModules, forJobs, inLoadOrder, moduleName, readDependencies } from "./modules.ts";

describe("modules", () => {
  test("by depmod's list", () => {
    const list = "kernel/a/b-c.ko: kernel/x.ko kernel/y.ko\nkernel/y.ko:\n\n";
    assert.deepEqual(
      [...readDependencies(list)],
      [
        ["kernel/a/b-c.ko", ["kernel/x.ko", "kernel/y.ko"]],
        ["kernel/y.ko", []],
      ],
    );
    for (const file of ["kernel/a/b-c.ko", "b_c.ko.xz", "x/b-c.ko.zst"]) {
      assert.equal(moduleName(file), "b_c");
    }
  });

  test("each comes after all that it needs, and once", () => {
    // Module n may need any with a smaller number; depmod lists all of them, the nearest first.
    const graph = fc.array(fc.uniqueArray(fc.nat(20), { maxLength: 4 }), { maxLength: 20 });
    fc.assert(
      fc.property(graph, fc.array(fc.nat(25)), (needs, wanted) => {
        const all = (n: number): number[] => {
          const found = new Set<number>();
          const walk = (at: number): void => {
            for (const need of needs[at] ?? [])
              if (need < at && !found.has(need)) {
                found.add(need);
                walk(need);
              }
          };
          walk(n);
          return [...found].sort((a, b) => b - a);
        };
        const file = (n: number): string => `kernel/m${n}.ko`;
        const dependencies = new Map(needs.map((_, n) => [file(n), all(n).map(file)]));
        const order = inLoadOrder(
          wanted.map((n) => `m${n}`),
          dependencies,
        );
        assert.equal(new Set(order).size, order.length);
        for (const n of wanted) assert.equal(order.includes(file(n)), n < needs.length);
        for (const one of order) {
          for (const need of dependencies.get(one) ?? []) {
            assert.ok(order.indexOf(need) !== -1 && order.indexOf(need) < order.indexOf(one));
          }
        }
      }),
    );
  });

  test("of a kernel that has not all of them are left out without a word", () => {
    const dependencies = new Map([["kernel/virtio_blk.ko", []]]);
    assert.deepEqual(inLoadOrder(bootModules, dependencies), ["kernel/virtio_blk.ko"]);
  });

  test("for jobs come with what they need", () => {
    const dependencies = readDependencies(
      [
        "kernel/net/bridge/bridge.ko: kernel/net/llc/llc.ko",
        "kernel/net/llc/llc.ko:",
        "kernel/drivers/gpu/drm/drm.ko:",
      ].join("\n"),
    );
    assert.deepEqual(forJobs(dependencies), [
      "kernel/net/bridge/bridge.ko",
      "kernel/net/llc/llc.ko",
    ]);
  });
});
