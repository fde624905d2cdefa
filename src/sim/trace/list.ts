/** A place in a list. */
export interface Node<T> {
  readonly value: T;
  list: List<T> | null;
  before: Node<T> | null;
  after: Node<T> | null;
}

export function node<T>(value: T): Node<T> {
  return { value, list: null, before: null, after: null };
}

/**
 * A list that keeps the order of coming and lets anyone leave at once, whatever its length. A Map
 * keeps the order too, but finding its first entry costs a walk over all that have left.
 */
export class List<T> implements Iterable<T> {
  first: Node<T> | null = null;
  #last: Node<T> | null = null;
  length = 0;

  /** Puts a node at the end, taking it from the list it is in. */
  push(node: Node<T>): void {
    node.list?.delete(node);
    node.list = this;
    node.before = this.#last;
    if (this.#last === null) this.first = node;
    else this.#last.after = node;
    this.#last = node;
    this.length++;
  }

  delete(node: Node<T>): void {
    if (node.list !== this) return;
    const { before, after } = node;
    if (before === null) this.first = after;
    else before.after = after;
    if (after === null) this.#last = before;
    else after.before = before;
    node.list = null;
    node.before = null;
    node.after = null;
    this.length--;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let node = this.first; node !== null; node = node.after) yield node.value;
  }
}
