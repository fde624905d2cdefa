import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, open, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, describe, it } from "node:test";
import { EBSClient, GetSnapshotBlockCommand, ListSnapshotBlocksCommand } from "@aws-sdk/client-ebs";
import { clientConfig } from "./cloud.ts";
import { ImageCloud } from "./image-cloud.ts";
import { prunePublished, publish, type Disk } from "./image-publish.ts";
import { blockBytes } from "./image-upload.ts";
import { Images } from "./images.ts";
import { Cloud } from "./cloud.ts";
import { imagePermissions } from "./infrastructure/image-permissions.ts";
import { Amazon, motoForTests, type Call, type Fault } from "./testing.ts";

const moto = await motoForTests();
const skip = typeof moto === "string" ? moto : false;
const gib = 1;
/** Which blocks of the disk are not zero. */
const written = [0, 1, 2, 70, 71, 100, 127];

describe("images in EC2", { skip, timeout: 600_000 }, () => {
  let amazon: Amazon;
  let folder: string;
  let path: string;
  let content: ReadonlyMap<number, Buffer>;
  let installation: string;
  const clouds: ImageCloud[] = [];
  let progress: string[];
  let writes: number;

  before(async () => {
    amazon = await Amazon.start((moto as { path: string }).path);
    folder = await mkdtemp(join(tmpdir(), "ami-"));
    path = join(folder, "disk");
    content = new Map(written.map((index) => [index, randomBytes(blockBytes)]));
    const file = await open(path, "wx");
    // What is behind it on the volume is zero, too.
    await file.truncate(128 * blockBytes);
    for (const [index, block] of content) {
      await file.write(block, 0, blockBytes, index * blockBytes);
    }
    await file.close();
  });
  after(async () => {
    for (const cloud of clouds) cloud.close();
    await rm(folder, { recursive: true, force: true });
    await amazon.close();
  });
  beforeEach(() => {
    amazon.calls.length = 0;
    amazon.fault = () => undefined;
    installation = `test${randomBytes(4).toString("hex")}`;
    progress = [];
    writes = 0;
  });

  const cloudOf = (signal = new AbortController().signal): ImageCloud => {
    const { region, endpoint } = amazon.options();
    const at = endpoint === undefined ? {} : { endpoint };
    const cloud = new ImageCloud({ region, ...at, installation, firstPauseMs: 1 }, signal);
    clouds.push(cloud);
    return cloud;
  };
  const diskOf = (disk = "a".repeat(64), more: Partial<Disk> = {}): Disk => ({
    disk,
    kind: "minimal amd64 debian bookworm",
    name: `mayfly-minimal-amd64-${installation}-${disk.slice(0, 12)}`,
    architecture: "x64",
    write: async () => {
      writes += 1;
      return { path, gib };
    },
    notes: join(folder, installation),
    token: randomUUID(),
    ...more,
  });
  const send = (disk = diskOf(), cloud = cloudOf()) =>
    publish(cloud, disk, (line) => progress.push(line));
  const nth = (action: string, fault: (n: number, call: Call) => Fault) => {
    let n = 0;
    amazon.fault = (call) => (call.action === action ? fault(n++, call) : undefined);
  };
  /** What moto has of a snapshot, block by block. */
  const read = async (snapshot: string): Promise<Map<number, Buffer>> => {
    const client = new EBSClient(clientConfig(amazon.options()));
    const found = new Map<number, Buffer>();
    const listed = await client.send(new ListSnapshotBlocksCommand({ SnapshotId: snapshot }));
    for (const { BlockIndex = -1, BlockToken } of listed.Blocks ?? []) {
      const which = { SnapshotId: snapshot, BlockIndex, BlockToken };
      const { BlockData } = await client.send(new GetSnapshotBlockCommand(which));
      found.set(BlockIndex, Buffer.from(await BlockData!.transformToByteArray()));
    }
    client.destroy();
    return found;
  };
  const isWhole = async (snapshot: string): Promise<void> => {
    const found = await read(snapshot);
    assert.deepEqual(
      [...found.keys()].toSorted((a, b) => a - b),
      written,
    );
    for (const [index, block] of content) assert.ok(found.get(index)?.equals(block), `${index}`);
    assert.equal(amazon.ebs.states.get(snapshot), "completed");
  };

  it("what is read back is the disk, and its zero blocks were not sent", async () => {
    const image = await send();
    assert.equal(image.wasThere, false);
    assert.match(image.id, /^ami-/);
    assert.equal(amazon.count("PutSnapshotBlock"), written.length);
    await isWhole(image.snapshots[0]!);
    assert.deepEqual(await readdir(join(folder, installation)), []);
    assert.equal(image.disk, "a".repeat(64));
    const asked = amazon.calls.find(({ action }) => action === "RegisterImage")!.params;
    const expected = {
      Architecture: "x86_64",
      BootMode: "uefi-preferred",
      EnaSupport: "true",
      ImdsSupport: "v2.0",
      VirtualizationType: "hvm",
      RootDeviceName: "/dev/xvda",
      "BlockDeviceMapping.1.DeviceName": "/dev/xvda",
      "BlockDeviceMapping.1.Ebs.VolumeType": "gp3",
      "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
      "BlockDeviceMapping.1.Ebs.SnapshotId": image.snapshots[0],
    };
    for (const [key, value] of Object.entries(expected)) assert.equal(asked.get(key), value, key);
  });

  it("the same disk is there the second time: it is not even written", async () => {
    const first = await send();
    amazon.calls.length = 0;
    const second = await send();
    assert.deepEqual([second.id, second.wasThere, writes], [first.id, true, 1]);
    assert.equal(amazon.calls.filter(({ action }) => /Snapshot|Register/.test(action)).length, 0);
  });

  it("a provider finds it by its name", async () => {
    const { id, snapshots } = await send();
    const images = new Images(new Cloud(amazon.options(), installation), Date.now);
    const name = `self/mayfly-minimal-{architecture}-${installation}-*`;
    const found = await images.find(name, "x64");
    assert.equal(found.id, id);
    assert.equal(found.rootDevice, "/dev/xvda");
    assert.equal(snapshots.length, 1);
    await assert.rejects(images.find(name, "arm64"), { kind: "invalid" });
  });

  it("throttling, faults and lost answers of each call are got over", async () => {
    const counts = new Map<string, number>();
    amazon.fault = ({ action, params }) => {
      const key = `${action} ${params.get("path") ?? ""}`;
      const n = counts.get(key) ?? 0;
      counts.set(key, n + 1);
      const faults: Fault[] = [
        action.startsWith("Describe") || action === "RegisterImage"
          ? { code: "RequestLimitExceeded", status: 503 }
          : { code: "RequestThrottledException" },
        { code: "InternalServerException", status: 500 },
        "lost",
      ];
      return faults[n];
    };
    const { snapshots } = await send();
    amazon.fault = () => undefined;
    await isWhole(snapshots[0]!);
    const started = amazon.calls.filter(({ action }) => action === "StartSnapshot").length;
    assert.equal(started, 4);
    assert.equal((await cloudOf().snapshots(null)).length, 1, "one token is one snapshot");
    assert.equal((await cloudOf().images(null)).length, 1);
  });

  it("a block that was damaged on its way is sent again", async () => {
    nth("PutSnapshotBlock", (n) => {
      if (n === 0) return { code: "ValidationException" };
      return undefined;
    });
    // EBS's own words decide; a mistake of another kind is none that passes.
    await assert.rejects(send(), { kind: "invalid", message: /ValidationException/ });
    const before = amazon.ebs.before.bind(amazon.ebs);
    let damaged = 0;
    amazon.fault = () => undefined;
    amazon.ebs.before = (asked) => {
      if (asked.action !== "PutSnapshotBlock" || damaged++ > 0) return before(asked);
      return before({ ...asked, body: Buffer.alloc(blockBytes, 1) });
    };
    const { snapshots } = await send().finally(() => (amazon.ebs.before = before));
    assert.ok(damaged > 1);
    await isWhole(snapshots[0]!);
  });

  it("one that is interrupted goes on where it was", async () => {
    nth("PutSnapshotBlock", (n) => (n < 3 ? undefined : "lost"));
    await assert.rejects(send(), { kind: "unreachable" });
    amazon.fault = () => undefined;
    const [snapshot] = await cloudOf().snapshots(null);
    assert.equal(snapshot?.state, "pending");
    const notes = join(folder, installation, snapshot.id);
    const noted = await readFile(notes, "utf8");
    assert.equal(noted.match(/^\d+ \S{44}$/gm)?.length, 3);
    // A kill may leave half a line.
    await writeFile(notes, `${noted}\n20`);
    amazon.calls.length = 0;
    const image = await send();
    assert.deepEqual(image.snapshots, [snapshot.id]);
    assert.ok(progress.some((line) => line.includes(`going on with ${snapshot.id}`)));
    assert.equal(amazon.count("StartSnapshot"), 0);
    assert.equal(amazon.count("PutSnapshotBlock"), written.length - 3);
    await isWhole(snapshot.id);
  });

  it("an interruption ends it at once, whatever it is at", async () => {
    for (const action of ["DescribeImages", "StartSnapshot", "PutSnapshotBlock", "RegisterImage"]) {
      const stop = new AbortController();
      nth(action, () => {
        stop.abort();
        return "lost";
      });
      await assert.rejects(send(diskOf(), cloudOf(stop.signal)), { kind: "unreachable" }, action);
    }
    amazon.fault = () => undefined;
    await isWhole((await send()).snapshots[0]!);
  });

  it("one that was sealed but not registered is registered, and sent no more", async () => {
    nth("RegisterImage", () => ({ code: "UnauthorizedOperation", status: 403 }));
    await assert.rejects(send(), { kind: "invalid", message: /UnauthorizedOperation/ });
    amazon.fault = () => undefined;
    amazon.calls.length = 0;
    const image = await send();
    assert.equal(image.wasThere, false);
    assert.equal(writes, 1);
    assert.equal(amazon.count("PutSnapshotBlock"), 0);
  });

  it("a snapshot that is not what was sent is an error, and the next is another", async () => {
    const before = amazon.ebs.before.bind(amazon.ebs);
    amazon.ebs.before = (asked) => {
      if (asked.action !== "CompleteSnapshot") return before(asked);
      return before({ ...asked, headers: { ...asked.headers, "x-amz-checksum": "other" } });
    };
    const sending = send().finally(() => (amazon.ebs.before = before));
    await assert.rejects(sending, { kind: "invalid", message: /snap-\w+ failed/ });
    const [failed] = await cloudOf().snapshots(null);
    assert.equal(failed?.state, "error");
    const image = await send();
    assert.notEqual(image.snapshots[0], failed.id);
    await isWhole(image.snapshots[0]!);
    assert.deepEqual(
      (await cloudOf().snapshots(null)).map(({ id }) => id),
      image.snapshots,
    );
  });

  it("what has no way out fails at once, in EC2's words", async () => {
    for (const code of ["AccessDeniedException", "ServiceQuotaExceededException"]) {
      nth("StartSnapshot", () => ({ code, status: 403 }));
      await assert.rejects(send(), { kind: "invalid", message: new RegExp(code) });
      assert.equal(amazon.count("StartSnapshot"), 1);
      amazon.calls.length = 0;
    }
  });

  it("removes what is replaced, but nothing that is used, named, or another's", async () => {
    const now = (): number => Date.now();
    const other = await send();
    installation = `${installation}x`;
    const digests = ["1", "2", "3", "4"].map((digit) => digit.repeat(64));
    const made = [];
    const small = join(folder, "small");
    await writeFile(small, "a disk");
    const write = async () => ({ path: small, gib });
    for (const disk of digests) made.push(await send(diskOf(disk, { write })));
    const kind = "minimal arm64 debian bookworm";
    const arm = await send(diskOf("5".repeat(64), { kind, write }));
    const [used, named, replaced, newest] = made;
    await amazon.ask("RunInstances", { ImageId: used!.id, MinCount: "1", MaxCount: "1" });
    const cloud = cloudOf();
    const prune = (dryRun: boolean, all = false) =>
      prunePublished(cloud, { all, dryRun, keep: new Set([named!.id]), now: now() });
    const dry = await prune(true);
    assert.deepEqual(
      dry.images.map(({ id }) => id),
      [replaced!.id],
    );
    assert.deepEqual(dry.snapshots, replaced!.snapshots);
    assert.equal((await cloud.images(null)).length, 5);
    assert.deepEqual(await prune(false), dry);
    const left = async (): Promise<string[]> => (await cloud.images(null)).map(({ id }) => id);
    assert.deepEqual(new Set(await left()), new Set([used!.id, named!.id, newest!.id, arm.id]));
    assert.equal((await cloud.snapshots(null)).length, 4);
    await prune(false, true);
    assert.deepEqual(new Set(await left()), new Set([used!.id, named!.id]));
    assert.match(await amazon.ask("DescribeImages", { "ImageId.1": other.id }), /<imageId>/);
  });

  it("asked, in all of this, for what the images' policy grants, and for no more", () => {
    const granted = imagePermissions.filter(({ kind }) => kind === "call");
    assert.deepEqual([...amazon.asked].toSorted(), granted.map(({ action }) => action).toSorted());
  });
});
