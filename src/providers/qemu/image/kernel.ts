import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { unpackLegacyLz4 } from "./lz4.ts";

/**
 * The kernel without its own unpacking, which an emulated processor does slowly: the payload of a
 * bzImage (Documentation/arch/x86/boot.rst, "payload_offset", since protocol 2.08), where we can
 * unpack it. Anything else, such as arm64's, is given back as it is.
 */
export function unpackKernel(image: Buffer): Buffer {
  if (image.length < 0x250 || image.toString("latin1", 0x202, 0x206) !== "HdrS") return image;
  if (image.readUInt16LE(0x206) < 0x208) return image;
  const setup = ((image[0x1f1] || 4) + 1) * 512;
  const from = setup + image.readUInt32LE(0x248);
  const payload = image.subarray(from, from + image.readUInt32LE(0x24c));
  const kernel = unpack(payload);
  return kernel?.toString("latin1", 0, 4) === "\x7fELF" ? kernel : image;
}

function unpack(payload: Buffer): Buffer | null {
  switch (payload.readUInt32BE(0)) {
    case 0x02214c18:
      return unpackLegacyLz4(payload);
    case 0x28b52ffd:
      // The unpacked size stands behind the frame.
      return zstdDecompressSync(payload.subarray(0, -4));
    default:
      return payload.readUInt16BE(0) === 0x1f8b ? gunzipSync(payload.subarray(0, -4)) : null;
  }
}

const signatureMark = "~Module signature appended~\n";

/**
 * A module as an emulated processor loads it quickly: without its signature (nobody is there to
 * put another in its place, and checking one costs RSA and SHA-256 each) and without the type
 * information for BPF, which the kernel skips when the section has another name.
 */
export function slimModule(module: Buffer): Buffer {
  let slim = module;
  if (module.toString("latin1", module.length - signatureMark.length) === signatureMark) {
    const info = module.length - signatureMark.length - 12;
    slim = module.subarray(0, info - module.readUInt32BE(info + 8));
  }
  const name = slim.lastIndexOf("\0.BTF\0", undefined, "latin1");
  if (name === -1) return slim;
  slim = Buffer.from(slim);
  slim.write(".xTF", name + 1, "latin1");
  return slim;
}
