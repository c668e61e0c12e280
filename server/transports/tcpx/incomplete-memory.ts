/** What the incomplete frames of all connections hold together, against its bound. */
export class IncompleteMemory {
  #bytes = 0;

  /** `shareBytes`: what each connection may hold even when all is used up, so that the small pay nothing for the large. */
  constructor(
    private readonly maxBytes: number,
    private readonly shareBytes: number,
  ) {}

  /** Bytes held now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A connection holds `toBytes` instead of `fromBytes`; says whether that is within bounds. */
  change(fromBytes: number, toBytes: number): boolean {
    this.#bytes += toBytes - fromBytes;
    return this.#bytes <= this.maxBytes || toBytes <= Math.max(fromBytes, this.shareBytes);
  }
}
