/**
 * Unpacks an LZ4 stream of the "legacy" frame format, which is what a kernel packed with LZ4 holds
 * (lz4_Frame_format.md: a magic number, then blocks that each begin with their packed length). Throws
 * a RangeError for anything else.
 */
export function unpackLegacyLz4(packed: Buffer): Buffer {
  if (packed.readUInt32LE(0) !== 0x184c2102) throw new RangeError("not a legacy LZ4 stream");
  const blocks: Buffer[] = [];
  let at = 4;
  // The kernel's build appends the unpacked size, too short for a block's length and a block.
  while (at + 4 < packed.length) {
    const length = packed.readUInt32LE(at);
    at += 4;
    if (at + length > packed.length) throw new RangeError("an LZ4 block does not end");
    blocks.push(unpackBlock(packed.subarray(at, at + length)));
    at += length;
  }
  return Buffer.concat(blocks);
}

const blockBytesMax = 8 * 1024 * 1024;

/** One block (lz4_Block_format.md): literals and copies of what went before, in turn. */
function unpackBlock(packed: Buffer): Buffer {
  const out = Buffer.alloc(blockBytesMax);
  let at = 0;
  let end = 0;
  const byte = (): number => {
    const value = packed[at++];
    if (value === undefined) throw new RangeError("an LZ4 block is cut off");
    return value;
  };
  const lengthOf = (nibble: number): number => {
    let length = nibble;
    for (let more = nibble === 15 ? 255 : 0; more === 255;) length += more = byte();
    return length;
  };
  while (at < packed.length) {
    const token = byte();
    const literals = lengthOf(token >> 4);
    if (end + literals > blockBytesMax) throw new RangeError("an LZ4 block is too long");
    packed.copy(out, end, at, at + literals);
    at += literals;
    end += literals;
    if (at >= packed.length) break;
    const distance = byte() | (byte() << 8);
    const length = lengthOf(token & 15) + 4;
    if (distance === 0 || distance > end) throw new RangeError("an LZ4 copy from nowhere");
    if (end + length > blockBytesMax) throw new RangeError("an LZ4 block is too long");
    // Byte by byte where it overlaps itself: that is how LZ4 says "again and again".
    if (distance >= length) out.copyWithin(end, end - distance, end - distance + length);
    else for (let i = 0; i < length; i += 1) out[end + i] = out[end + i - distance] ?? 0;
    end += length;
  }
  return out.subarray(0, end);
}
