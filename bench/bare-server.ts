import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";

/*
 * The limit that intake is compared with: a server that checks each event's signature and commits
 * it as one row, all that arrived together in one transaction, and does nothing else.
 */
const [folder = ".", secret = ""] = process.argv.slice(2);
const db = new DatabaseSync(join(folder, "bare.db"));
db.exec("pragma journal_mode = wal; pragma synchronous = full; create table events (body text)");
const insert = db.prepare("insert into events (body) values (?)");
let waiting: { body: string; answer: () => void }[] = [];

function commit(): void {
  const group = waiting;
  waiting = [];
  db.exec("begin");
  for (const { body } of group) insert.run(body);
  db.exec("commit");
  for (const { answer } of group) answer();
}

const server = createServer((request, response) => {
  const parts: Buffer[] = [];
  request.on("data", (part: Buffer) => parts.push(part));
  request.on("end", () => {
    const body = Buffer.concat(parts);
    const told = Buffer.from(String(request.headers["x-mayfly-signature-256"]));
    const own = Buffer.from(`sha256=${createHmac("sha256", secret).update(body).digest("hex")}`);
    if (told.length !== own.length || !timingSafeEqual(told, own)) {
      response.writeHead(401).end();
      return;
    }
    if (waiting.length === 0) setImmediate(commit);
    waiting.push({ body: body.toString(), answer: () => response.writeHead(202).end() });
  });
});
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
});
