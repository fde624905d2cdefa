/** A member of an archive. A folder has no content; a link's content is where it leads. */
export interface CpioEntry {
  /** Without a leading slash. */
  readonly path: string;
  readonly kind: "folder" | "file" | "link" | "device";
  readonly mode: number;
  readonly content?: Uint8Array;
  /** For a character device: major and minor. */
  readonly device?: readonly [number, number];
}

const kinds = { folder: 0o040000, file: 0o100000, link: 0o120000, device: 0o020000 };

/**
 * The archive that Linux unpacks as its first file system ("newc", as the kernel's
 * Documentation/driver-api/early-userspace/buffer-format.rst has it): root's, of the epoch, in the
 * order of their paths, so that the same entries always give the same bytes.
 */
export function cpio(entries: readonly CpioEntry[]): Buffer {
  const sorted = [...withFolders(entries).values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  const parts: Buffer[] = [];
  sorted.forEach((entry, index) => parts.push(...member(entry, index + 1)));
  parts.push(...member({ path: "TRAILER!!!", kind: "file", mode: 0 }, 0));
  return Buffer.concat(parts);
}

/** Every folder on the way to an entry, too. */
function withFolders(entries: readonly CpioEntry[]): Map<string, CpioEntry> {
  const all = new Map<string, CpioEntry>();
  for (const { path } of entries) {
    for (let at = path.indexOf("/"); at !== -1; at = path.indexOf("/", at + 1)) {
      const folder = path.slice(0, at);
      all.set(folder, { path: folder, kind: "folder", mode: 0o755 });
    }
  }
  for (const entry of entries) all.set(entry.path, entry);
  return all;
}

function member(entry: CpioEntry, inode: number): Buffer[] {
  const { path, kind, mode, content = new Uint8Array(), device = [0, 0] } = entry;
  const name = Buffer.from(`${path}\0`);
  const isTrailer = inode === 0;
  const fields = [
    inode,
    isTrailer ? 0 : kinds[kind] | mode,
    0,
    0,
    1,
    0,
    content.length,
    0,
    0,
    device[0],
    device[1],
    name.length,
    0,
  ];
  const head = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
  return [padded(Buffer.concat([Buffer.from(head), name])), padded(Buffer.from(content))];
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
