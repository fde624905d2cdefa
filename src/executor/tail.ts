/** The last of what was said, in at most about `bytesMax` bytes. */
export class Tail {
  readonly #bytesMax: number;
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  add(bytes: Uint8Array): void {
    // A copy: what came with it, a whole batch, must not stay for the sake of a line.
    this.#chunks.push(Buffer.from(bytes));
    this.#bytes += bytes.length;
    if (this.#bytes <= 2 * this.#bytesMax) return;
    const kept = Buffer.concat(this.#chunks).subarray(-this.#bytesMax);
    this.#chunks = [Buffer.from(kept)];
    this.#bytes = kept.length;
  }

  get text(): string {
    return Buffer.concat(this.#chunks).subarray(-this.#bytesMax).toString("utf8");
  }
}
