import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { absoluteLimits } from "./label-grammar.ts";
import { parseLabels, printRequest } from "./labels.ts";
import type { CapacityRequest } from "./labels.ts";

function requestOf(...labels: string[]): CapacityRequest {
  const parsed = parseLabels(labels);
  if ("refusal" in parsed) throw new Error(parsed.refusal);
  return parsed.request;
}

function refusalOf(...labels: string[]): string {
  const parsed = parseLabels(labels);
  if ("refusal" in parsed) return parsed.refusal;
  throw new Error(`not refused: ${JSON.stringify(parsed)}`);
}

const gb = 1024;

describe("presets", () => {
  test("have 2 GB of memory and 10 GB of disk a cpu", () => {
    assert.deepEqual(requestOf("small"), { cpu: 2, memoryMb: 4 * gb, diskGb: 20 });
    assert.deepEqual(requestOf("medium"), { cpu: 4, memoryMb: 8 * gb, diskGb: 40 });
    assert.deepEqual(requestOf("Large"), { cpu: 8, memoryMb: 16 * gb, diskGb: 80 });
    assert.deepEqual(requestOf("XLARGE"), { cpu: 16, memoryMb: 32 * gb, diskGb: 160 });
  });

  test("may name a number of cpus and an architecture", () => {
    const expected = { cpu: 6, memoryMb: 12 * gb, diskGb: 60, architecture: "arm64" };
    assert.deepEqual(requestOf("6cpu-linux-arm64"), expected);
    assert.equal(requestOf("2CPU-Linux-X64").architecture, "x64");
    assert.match(refusalOf("0cpu-linux-x64"), /from 1 to 1024/);
    assert.match(refusalOf("4cpu-linux-riscv"), /"-linux-riscv" is no size/);
  });
});

describe("compact labels", () => {
  test("give each kind once, in any order, with or without separators", () => {
    const all = { cpu: 4, memoryMb: 8 * gb, diskGb: 50 };
    assert.deepEqual(requestOf("4cpu8gbram50gbssd"), all);
    assert.deepEqual(requestOf("50gbssd-4cpu_8gbmem"), all);
    assert.deepEqual(requestOf("2cpu-4gb"), { cpu: 2, memoryMb: 4 * gb });
    assert.deepEqual(requestOf("8vCPU_32gbMem_1gpu"), { cpu: 8, memoryMb: 32 * gb, gpu: 1 });
    assert.deepEqual(requestOf("512mbram"), { memoryMb: 512 });
  });

  test("a bare gb is memory, and a second one is refused", () => {
    assert.deepEqual(requestOf("8gb"), { memoryMb: 8 * gb });
    assert.deepEqual(requestOf("50gbdisk-8gb"), { memoryMb: 8 * gb, diskGb: 50 });
    assert.match(refusalOf("4cpu8gb50gb"), /"4cpu8gb50gb": asks for memory twice.*50gbssd/);
    assert.match(refusalOf("8gbram50gb"), /asks for memory twice/);
  });

  test("what is meant as a size but is none is refused with what would be right", () => {
    assert.match(refusalOf("8gbrma50gbssd"), /unknown unit "gbrma"; did you mean "gbram"/);
    assert.match(refusalOf("4cpu-fast"), /"-fast" is no size; write it like/);
    assert.match(refusalOf("4cpu-"), /"-" is no size/);
    assert.match(refusalOf("4cpu--8gb"), /"--8gb" is no size/);
    assert.match(refusalOf("4cpu4cpu"), /asks for cpu twice/);
    assert.match(refusalOf("0gpu"), /gpu is a whole number from 1 to 64/);
    assert.match(refusalOf("04cpu"), /from 1 to 1024, not "04"/);
    assert.match(refusalOf("1025cpu"), /from 1 to 1024/);
    assert.match(refusalOf("16385gb"), /memory is a whole number from 1 to 16384/);
    assert.match(refusalOf(`${"9".repeat(200)}cpu`), /from 1 to 1024/);
  });
});

describe("keyed labels", () => {
  test("take every key", () => {
    const label = "mayfly=17-a/cpu=4/ram=8/disk=50/gpu=1/arch=arm64/spot=false/image=debian-13";
    assert.deepEqual(requestOf(label), {
      runId: "17-a",
      cpu: 4,
      memoryMb: 8 * gb,
      diskGb: 50,
      gpu: 1,
      architecture: "arm64",
      spot: false,
      image: "debian-13",
    });
  });

  test("ignore case but keep that of a run id and an image", () => {
    assert.deepEqual(requestOf("MayFly=aB/CPU=4/Arch=AMD64/SPOT=True/IMAGE=Debian"), {
      runId: "aB",
      cpu: 4,
      architecture: "x64",
      spot: true,
      image: "Debian",
    });
  });

  test("may leave out the run id, or have nothing else", () => {
    assert.deepEqual(requestOf("mayfly/cpu=4"), { cpu: 4 });
    assert.deepEqual(requestOf("mayfly=17"), { runId: "17" });
  });

  test("count memory and disk in GB unless told", () => {
    assert.deepEqual(requestOf("mayfly/ram=512mb/disk=5gb"), { memoryMb: 512, diskGb: 5 });
  });

  test("refuse what they do not know, with a suggestion where one is near", () => {
    assert.match(refusalOf("mayfly=1/memroy=8"), /unknown key "memroy"; did you mean "memory"/);
    assert.match(refusalOf("mayfly=1/cp=8"), /did you mean "cpu"/);
    assert.match(refusalOf("mayfly=1/family=c7"), /unknown key "family"; known are cpu, ram/);
    assert.match(refusalOf("mayfly=1/__proto__=8"), /unknown key "__proto__"/);
    assert.match(refusalOf("mayfly=1/arch=arm"), /did you mean "arm64"/);
    assert.match(refusalOf("mayfly=1/spot=yes"), /"true" or "false", not "yes"/);
    assert.match(refusalOf("mayfly=1/cpu=4/vcpu=4"), /asks for cpu twice/);
    assert.match(refusalOf("mayfly=1/cpu"), /"" is no amount of cpu/);
    assert.match(refusalOf("mayfly=1/cpu=4gb"), /"4gb" is no amount of cpu/);
    assert.match(refusalOf("mayfly=1/cpu=-4"), /"-4" is no amount of cpu/);
    assert.match(refusalOf("mayfly=1/cpu=2.5"), /"2.5" is no amount of cpu/);
    assert.match(refusalOf("mayfly=1/cpu=0"), /cpu is a whole number from 1/);
    assert.match(refusalOf("mayfly=1/"), /unknown key ""/);
    assert.match(refusalOf("mayfly=/cpu=4"), /a run id is/);
    assert.match(refusalOf("mayfly=$(id)/cpu=4"), /a run id is/);
    assert.match(refusalOf("mayfly=1/image=../../etc"), /an image's name/);
    assert.match(refusalOf("mayfly=1/image=$(id)"), /an image's name/);
  });
});

describe("several labels", () => {
  test("plain ones stay plain, as written and in their order", () => {
    const plain = ["self-hosted", "Linux", "x64", "gpu", "ubuntu-latest", "2xlarge", "3.12"];
    const more = ["mayfly", "cpu", "gb", "64bit", "x-4cpu", "my-small", "4constructor", "Linux"];
    const parsed = parseLabels([...plain, "4cpu", ...more]);
    assert.deepEqual(parsed, { request: { cpu: 4 }, plain: [...plain, ...more] });
  });

  test("add up, and may repeat one another", () => {
    assert.deepEqual(requestOf("4cpu", "8gb", "mayfly=1/cpu=4"), {
      cpu: 4,
      memoryMb: 8 * gb,
      runId: "1",
    });
  });

  test("that ask for different amounts are refused", () => {
    assert.match(refusalOf("small", "8gb"), /labels "small" and "8gb" ask for a different memory/);
    assert.match(refusalOf("mayfly=1", "mayfly=2"), /a different run id/);
  });

  test("a label somebody offers as it stands is plain", () => {
    const isOffered = (label: string) => label === "large" || label === "4cpu-fast";
    assert.deepEqual(parseLabels(["large", "4cpu-fast", "2cpu"], isOffered), {
      request: { cpu: 2 },
      plain: ["large", "4cpu-fast"],
    });
  });

  test("have bounds", () => {
    assert.match(refusalOf(...Array<string>(101).fill("linux")), /101 labels, at most 100/);
    assert.match(refusalOf("linux", "x".repeat(257)), /label 2 of 2 has 257 characters/);
    assert.match(refusalOf("linux", ""), /label 2 of 2 is empty/);
    for (const bad of ["\n", "\0", "\u009b", "\u2028", "\ud800"]) {
      assert.match(refusalOf(`lin${bad}ux`), /label 1 of 1 holds a control character/);
    }
    assert.deepEqual(requestOf(...Array<string>(100).fill("x".repeat(256))), {});
  });
});

const requests: fc.Arbitrary<CapacityRequest> = fc.record(
  {
    cpu: fc.integer({ min: 1, max: absoluteLimits.cpu }),
    memoryMb: fc.integer({ min: 1, max: absoluteLimits.memoryMb }),
    diskGb: fc.integer({ min: 1, max: absoluteLimits.diskGb }),
    gpu: fc.integer({ min: 1, max: absoluteLimits.gpu }),
    architecture: fc.constantFrom("x64" as const, "arm64" as const),
    spot: fc.boolean(),
    image: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,99}$/),
    runId: fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/),
  },
  { requiredKeys: [], noNullPrototype: true },
);

/** Near misses of the grammar: its own pieces in any order, now and then spoilt. */
const nearLabels = fc
  .array(
    fc.oneof(
      fc.constantFrom("4", "8", "0", "cpu", "gb", "ram", "ssd", "gpu", "-", "_", "/", "="),
      fc.constantFrom("mayfly=", "mayfly/", "small", "linux", "arch=", "spot=", "true", "arm64"),
      fc.string({ maxLength: 3 }),
    ),
    { minLength: 1, maxLength: 8 },
  )
  .map((pieces) => pieces.join(""));

test("what is printed reads back the same", () => {
  fc.assert(
    fc.property(requests, (request) => {
      assert.deepEqual(parseLabels(printRequest(request)), { request, plain: [] });
    }),
  );
});

test("what is printed is as short as it can be", () => {
  assert.deepEqual(printRequest({}), []);
  assert.deepEqual(printRequest({ runId: "17" }), ["mayfly=17"]);
  assert.deepEqual(printRequest({ cpu: 4, memoryMb: 8 * gb }), ["mayfly/cpu=4/ram=8"]);
  assert.deepEqual(printRequest({ memoryMb: 1500, spot: false }), ["mayfly/ram=1500mb/spot=false"]);
});

test("a size written compactly reads the same in any order and case", () => {
  const { cpu, memoryMb: memoryGb, gpu } = { cpu: 1024, memoryMb: 16384, gpu: 64 };
  const parts = fc
    .record({
      cpu: fc.integer({ min: 1, max: cpu }),
      ram: fc.integer({ min: 1, max: memoryGb }),
      gpu: fc.integer({ min: 1, max: gpu }),
    })
    .chain((size) =>
      fc.record({
        size: fc.constant(size),
        label: fc
          .shuffledSubarray([`${size.cpu}cpu`, `${size.ram}GBram`, `${size.gpu}Gpu`], {
            minLength: 3,
          })
          .chain((shuffled) =>
            fc.constantFrom("", "-", "_").map((separator) => shuffled.join(separator)),
          ),
      }),
    );
  fc.assert(
    fc.property(parts, ({ size, label }) => {
      assert.deepEqual(requestOf(label), { cpu: size.cpu, memoryMb: size.ram * gb, gpu: size.gpu });
    }),
  );
});

test("no label is lost, and no refusal is without a bound", () => {
  fc.assert(
    fc.property(fc.array(nearLabels, { maxLength: 4 }), (labels) => {
      const parsed = parseLabels(labels);
      if ("refusal" in parsed) {
        assert.ok(parsed.refusal.length > 0 && parsed.refusal.length < 400, parsed.refusal);
        return;
      }
      const sized = labels.filter((label) => !parsed.plain.includes(label));
      assert.equal(sized.length > 0, Object.keys(parsed.request).length > 0);
      assert.deepEqual(
        parsed.plain,
        labels.filter((label) => !sized.includes(label)),
      );
      for (const [field, amount] of Object.entries(parsed.request)) {
        if (typeof amount !== "number") continue;
        assert.ok(amount >= 1 && amount <= absoluteLimits[field as "cpu"]);
      }
    }),
    { numRuns: 3000 },
  );
});
