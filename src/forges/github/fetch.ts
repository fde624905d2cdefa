export type Fetch = typeof globalThis.fetch;

/** A list of 100 runs is the largest answer asked for: some two megabytes. */
const bodyMaxBytes = 32 * 1024 * 1024;

const nothing = (): void => {};

/** octokit writes to the console otherwise. */
export const silence = { debug: nothing, info: nothing, warn: nothing, error: nothing };

/** `fetch` with a longest time for the whole answer, and a largest size of it. */
export function boundedFetch(fetch: Fetch, limitMs: number): Fetch {
  return async (input, init) => {
    const limit = AbortSignal.timeout(limitMs);
    const signal = init?.signal ? AbortSignal.any([init.signal, limit]) : limit;
    const answer = await fetch(input, { ...init, signal });
    if (answer.body === null || answer.status === 204 || answer.status === 304) return answer;
    const bounded = answer.body.pipeThrough(boundary(bodyMaxBytes));
    const { status, statusText, headers } = answer;
    return withUrl(new Response(bounded, { status, statusText, headers }), answer.url);
  };
}

function boundary(bytesMax: number): TransformStream<Uint8Array, Uint8Array> {
  let bytes = 0;
  return new TransformStream({
    transform(chunk, controller) {
      bytes += chunk.byteLength;
      if (bytes > bytesMax) controller.error(new Error(`an answer of more than ${bytesMax} bytes`));
      else controller.enqueue(chunk);
    },
  });
}

/** A `Response` made by hand has no address, and octokit hands it on. */
function withUrl(response: Response, url: string): Response {
  return Object.defineProperty(response, "url", { value: url });
}
