import assert from "node:assert/strict";
import { mkdtemp, open, rm, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Manager, scratchFolder, scriptJob } from "../../../test/guests.ts";
import { never } from "../conformance-world.ts";
import { hostArchitecture } from "../local.ts";
import { writeDisk } from "../qemu/image/disk.ts";
import { ec2Part, type StoredImage } from "../qemu/image/manifest.ts";
import { imageForTests } from "../qemu/testing.ts";
import { bootDisk, hostAddress, missingFirmware, tryDisk } from "../qemu/try-disk.ts";
import { userData } from "./user-data.ts";

/*
 * The disk of an image for EC2, booted by UEFI, with a stand-in for the metadata: what differs from
 * EC2 is the network card and who serves the metadata.
 */

const image = await imageForTests();
const architecture = hostArchitecture() ?? "x64";
const missing = await missingFirmware(architecture);
const skip =
  typeof image === "string"
    ? image
    : image.files[ec2Part] === undefined
      ? "the image was not made for EC2"
      : (missing ?? false);

/** What the job prints of the machine it runs in. */
const look = `
grep -c ' / overlay ' /proc/mounts
ps -o comm= -p 1
tail -n 1 /etc/resolv.conf
cat /proc/sys/kernel/hostname
command -v shutdown
awk '$2 == "/work" { print $1, $3 }' /proc/mounts
df -k /work | awk 'NR == 2 { print ($2 > 1500000) }'
`;

describe("an image of EC2", { skip, timeout: 600_000 }, () => {
  let folder = "";
  let disk = "";

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "ami-boot-"));
    disk = join(folder, "disk");
    const { gib } = await writeDisk(image as StoredImage, disk);
    // A volume may be larger than the image.
    await truncate(disk, (gib + 1) * 2 ** 30);
  });
  after(() => rm(folder, { recursive: true, force: true }));

  test("runs a job of the ec2 provider, and ends by itself", async (t) => {
    const place = scratchFolder();
    const manager = await Manager.open(place);
    const { url, close } = await manager.listenTcp();
    t.after(async () => {
      close();
      await manager.close();
      await rm(place, { recursive: true, force: true });
    });
    const job = await manager.native.submit(scriptJob(look));
    const [, program] = await manager.claimRunner([], url.replace("127.0.0.1", hostAddress));
    const told = { program, isSpot: true, proves: false, secret: null };
    const data = userData(told);
    const boot = { disk, architecture, userData: Buffer.from(data, "base64") };
    const end = await bootDisk({ ...boot, network: "open" }, AbortSignal.timeout(500_000));
    assert.match(end.console, /reboot: Power down/);
    const { outcome } = await manager.ended(job.id).catch((error: Error) => {
      throw new Error(`${error.message}: ${end.console.slice(-2_000)}`);
    });
    const said = await manager.text(job.id, "stdout");
    assert.equal(outcome, "success", said + (await manager.text(job.id, "stderr")));
    assert.deepEqual(said.trimEnd().split("\n"), [
      "1",
      "init",
      "nameserver 169.254.169.3",
      "ip-169-254-169-15",
      "/usr/sbin/shutdown",
      "/dev/dm-0 ext4",
      "1",
    ]);
  });

  test("is refused when it is tried and has a fault, in its own words", async () => {
    // The system's first bytes, where the disk's table says.
    const file = await open(disk, "r+");
    const { buffer: table } = await file.read(Buffer.alloc(1024), 0, 1024, 1024);
    const entry = table.indexOf(Buffer.from("mayfly-base", "utf16le")) - 56;
    await file.write(Buffer.alloc(512), 0, 512, 512 * Number(table.readBigUInt64LE(entry + 32)));
    await file.close();
    const message =
      /^the disk does not work by (UEFI|BIOS): .*cannot mount \/dev\/nvme0n1p\d on \/base/;
    await assert.rejects(tryDisk(disk, architecture, never), { kind: "invalid", message });
  });
});
