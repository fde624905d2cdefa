import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { never } from "../providers/conformance-world.ts";
import type { Published } from "../providers/ec2/image-cloud.ts";
import { Amazon, motoForTests } from "../providers/ec2/testing.ts";
import { hostArchitecture } from "../providers/local.ts";
import { ec2Part, type StoredImage } from "../providers/qemu/image/manifest.ts";
import { imageForTests } from "../providers/qemu/testing.ts";
import { missingFirmware } from "../providers/qemu/try-disk.ts";
import { ec2Target, listEc2, pruneEc2 } from "./image-ec2.ts";
import { build, list } from "./image.ts";

const moto = await motoForTests();
const image = await imageForTests();
const architecture = hostArchitecture() ?? "x64";
const lacks =
  typeof image === "string"
    ? image
    : image.files[ec2Part] === undefined
      ? "the image was not made for EC2"
      : await missingFirmware(architecture);
const skip = typeof moto === "string" ? moto : (lacks ?? false);

describe("mayfly image --for ec2", { skip }, () => {
  let amazon: Amazon;
  let state: string;
  let folder: string;
  let flags: { readonly config: string; readonly state: string };

  before(async () => {
    amazon = await Amazon.start((moto as { path: string }).path);
    state = await mkdtemp(join(tmpdir(), "image-ec2-"));
    folder = join(state, "images");
    await mkdir(folder);
    // Their checksums are looked at; to keep them takes moto far longer than all the rest.
    const { ebs } = amazon;
    const judge = ebs.before.bind(ebs);
    ebs.before = (asked) => {
      const headers = { "content-type": "application/json" };
      const taken = { status: 201, headers, body: "{}" };
      return judge(asked) ?? (asked.action === "PutSnapshotBlock" ? taken : null);
    };
    flags = { state, config: join(state, "mayfly.yaml") };
    await configure(["ami-00000000000000001"]);
  });
  after(async () => {
    await amazon.close();
    await rm(state, { recursive: true, force: true });
  });

  /** A provider for each of these images. */
  async function configure(images: readonly string[]): Promise<void> {
    const { subnets, securityGroup, url: endpoint } = amazon;
    const common = { region: "us-east-1", subnets, securityGroups: [securityGroup], endpoint };
    const providers = Object.fromEntries(
      images.map((name, n) => [`aws${n}`, { ec2: { ...common, image: name } }]),
    );
    const pools = { small: { provider: "aws0", size: "2cpu4gb", max: 1 } };
    await writeFile(flags.config, JSON.stringify({ providers, pools }));
  }

  const finish = async (from: object = flags) => {
    const lines: string[] = [];
    const target = await ec2Target(from, folder, architecture);
    const made = await target.finish(image as StoredImage, (line) => lines.push(line), never);
    return { made, shown: made.shown, lines };
  };
  const listed = async (): Promise<readonly Published[]> => {
    let rows: readonly Published[] = [];
    await listEc2(flags, folder, async (all) => void (rows = all));
    return rows;
  };

  it("tries the disk, sends it, and finds it again", { timeout: 500_000 }, async () => {
    const first = await finish();
    assert.match(first.shown, /^ami-[0-9a-f]+$/);
    assert.ok(first.lines.includes("trying whether the disk boots"));
    assert.ok(amazon.count("PutSnapshotBlock") > 200);
    amazon.calls.length = 0;
    const again = await finish({ ...flags, provider: "aws0" });
    assert.deepEqual([again.shown, again.made["wasThere"]], [first.shown, true]);
    assert.equal(
      amazon.calls.filter(({ action }) => /Block|Start|Register/.test(action)).length,
      0,
    );
    assert.ok(!again.lines.some((line) => line.startsWith("trying")));
    assert.deepEqual(await readdir(folder), ["uploads"], "no disk is left");
    const [row] = await listed();
    const debian = architecture === "x64" ? "amd64" : "arm64";
    assert.equal(row?.id, first.shown);
    assert.match(row?.name ?? "", new RegExp(`^mayfly-minimal-${debian}-run[0-9a-f]{8}-`));
  });

  it("removes only when told, and not what the configuration names", async () => {
    const [made] = await listed();
    assert.ok(made !== undefined);
    await pruneEc2(flags, folder, { all: true, dryRun: true });
    assert.equal((await listed()).length, 1);
    await configure([made.id]);
    await pruneEc2(flags, folder, { all: true, dryRun: false });
    assert.equal((await listed()).length, 1);
    await configure(["self/mayfly-minimal-{architecture}-*"]);
    await pruneEc2(flags, folder, { all: true, dryRun: false });
    assert.deepEqual(await listed(), []);
  });

  it("says before anything is built what it cannot know", async () => {
    const refusals = [
      [{ ...flags, for: "gcp" }, "--for"],
      [{ ...flags, for: "ec2", provider: "nobody" }, "--provider"],
      [{ ...flags, for: "ec2", region: "Frankfurt" }, "--region"],
    ] as const;
    for (const [given, where] of refusals) {
      await assert.rejects(build(given), { code: "invalid", where });
      await assert.rejects(list(given), { code: "invalid", where });
    }
    await configure(["ami-00000000000000001", "ami-00000000000000002"]);
    await assert.rejects(build({ ...flags, for: "ec2" }), {
      message: "several are configured",
      hint: /aws0, aws1/,
    });
    assert.deepEqual(await readdir(folder), ["uploads"]);
  });
});
