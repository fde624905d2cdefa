import type { Config } from "../config/config.ts";
import { counted } from "../domain/words.ts";
import type { Check } from "../providers/provider.ts";

const checkMs = 20_000;

/** Whether the front's queue answers, and how many events wait in it. Takes none. */
export async function checkFront(front: NonNullable<Config["front"]>): Promise<Check> {
  const name = "queue";
  const { openSqs } = await import("../fleet/front-sqs.ts");
  const queue = openSqs(front);
  try {
    const waiting = await queue.waiting(AbortSignal.timeout(checkMs));
    return { name, ok: true, detail: `${counted(waiting, "event")} in it`, mend: null };
  } catch (error) {
    const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    const mend = "check front.queue, and the credentials: see docs/aws.md";
    return { name, ok: false, detail, mend };
  } finally {
    queue.close();
  }
}
