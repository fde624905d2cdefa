/** The links of waiting jobs, by the number of the job: a job waits in one queue of a kind at most. */
export interface JobLinkArrays {
  readonly before: Int32Array;
  readonly after: Int32Array;
}

export function jobLinks(jobs: number): JobLinkArrays {
  return { before: new Int32Array(jobs), after: new Int32Array(jobs) };
}

/** Jobs in the order of coming, any of which may leave: eight bytes a job, whoever the queues are. */
export class JobQueue {
  /** -1: nobody waits. */
  first = -1;
  #last = -1;
  length = 0;
  readonly #links: JobLinkArrays;

  constructor(links: JobLinkArrays) {
    this.#links = links;
  }

  push(job: number): void {
    const { before, after } = this.#links;
    before[job] = this.#last;
    after[job] = -1;
    if (this.#last === -1) this.first = job;
    else after[this.#last] = job;
    this.#last = job;
    this.length++;
  }

  /** `job` must be in this queue. */
  delete(job: number): void {
    const { before, after } = this.#links;
    const [one, other] = [before[job]!, after[job]!];
    if (one === -1) this.first = other;
    else after[one] = other;
    if (other === -1) this.#last = one;
    else before[other] = one;
    this.length--;
  }
}
