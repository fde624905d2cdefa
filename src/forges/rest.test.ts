import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, it } from "node:test";
import { z } from "zod";
import { MayflyError } from "../domain/errors.ts";
import { Rest } from "./rest.ts";

const never = new AbortController().signal;
const token = "a-very-secret-token";

async function against(
  listener: RequestListener,
  run: (rest: Rest) => Promise<void>,
): Promise<void> {
  const server = createServer(listener);
  // Only the tests themselves close a connection, however slow the host is.
  server.keepAliveTimeout = 0;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  try {
    await run(new Rest({ name: "acme", url: `http://127.0.0.1:${port}`, token }));
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

function fails(answer: Promise<unknown>, code: string, words: RegExp): Promise<void> {
  return assert.rejects(answer, (error) => {
    assert.ok(error instanceof MayflyError);
    assert.equal(error.code, code);
    assert.match(error.message, words);
    assert.ok(!`${error.stack} ${error.hint} ${JSON.stringify(error)}`.includes(token));
    return true;
  });
}

describe("a call to a server of the Gitea family", () => {
  const refusals: readonly (readonly [number, string])[] = [
    [400, "invalid"],
    [401, "unauthenticated"],
    [403, "forbidden"],
    [404, "not_found"],
    [429, "too_many"],
    [500, "unavailable"],
    [503, "unavailable"],
  ];
  for (const [status, code] of refusals) {
    it(`that is answered ${status} is ${code}`, async () => {
      const message = `it is so; you sent ${status === 500 ? token : "nothing"}`;
      const listener: RequestListener = (_, response) => {
        response.writeHead(status).end(JSON.stringify({ message }));
      };
      await against(listener, (rest) =>
        fails(rest.get("/api/v1/x?secret=1", z.any(), never), code, /^forge acme: \/api\/v1\/x /),
      );
    });
  }

  it("is never redirected: the token would go along", async () => {
    let asked = 0;
    const listener: RequestListener = (request, response) => {
      asked++;
      response.writeHead(302, { location: `http://${request.headers.host}/elsewhere` }).end();
    };
    await against(listener, (rest) => fails(rest.get("/x", z.any(), never), "invalid", /302/));
    assert.equal(asked, 1);
  });

  it("takes no more than it can hold", async () => {
    const listener: RequestListener = (_, response) => {
      const megabyte = " ".repeat(1024 * 1024);
      const more = (): void => {
        if (!response.destroyed) response.write(megabyte, more);
      };
      more();
    };
    await against(listener, (rest) =>
      fails(rest.get("/x", z.any(), never), "unavailable", /more than 16777216 bytes/),
    );
  });

  it("is asked again, once, when a connection that was kept open is gone", async () => {
    let asked = 0;
    const listener: RequestListener = (request, response) => {
      asked++;
      if (asked === 2) request.socket.destroy();
      else response.end("{}");
    };
    await against(listener, async (rest) => {
      await rest.get("/x", z.any(), never);
      await rest.get("/x", z.any(), never);
      assert.equal(asked, 3);
    });
  });

  it("that changes something is not repeated", async () => {
    let asked = 0;
    const listener: RequestListener = (request) => {
      asked++;
      request.socket.destroy();
    };
    await against(listener, (rest) =>
      fails(rest.call({ method: "POST", path: "/x" }, never), "unavailable", /did not answer/),
    );
    assert.equal(asked, 1);
  });

  it("names the field that is not as expected", async () => {
    const listener: RequestListener = (_, response) => response.end('{"jobs":[{"id":"x"}]}');
    const schema = z.object({ jobs: z.array(z.object({ id: z.number() })) });
    await against(listener, (rest) =>
      assert.rejects(rest.get("/x", schema, never), { code: "unavailable", where: "jobs.0.id" }),
    );
  });
});
