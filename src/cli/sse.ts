export interface ServerEvent {
  readonly event: string;
  readonly id: string | null;
  readonly data: string;
}

/** Longer than any event of ours; a server that sends more is none of ours. */
const eventMax = 16_000_000;

/** The events of a text/event-stream body. Ends with the stream; a half event at its end is none. */
export async function* serverEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const decoder = new TextDecoder();
  let rest = "";
  let event = "message";
  let id: string | null = null;
  let data: string[] = [];
  let length = 0;
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const text of lines) {
      const line = text.replace(/\r$/, "");
      if (line === "") {
        if (data.length > 0) yield { event, id, data: data.join("\n") };
        [event, data, length] = ["message", [], 0];
        continue;
      }
      length += line.length;
      const [, field = "", value = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
      if (field === "event") event = value;
      else if (field === "id") id = value;
      else if (field === "data") data.push(value);
    }
    if (rest.length + length > eventMax) throw new Error("an event is too long");
  }
}
