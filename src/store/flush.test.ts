import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { embeddedDialect } from "./sqlite.ts";
import { Store, type Tx } from "./store.ts";

/** A store whose disk flushes as told. */
async function storeOn(disk: { flush: () => Promise<void> }): Promise<Store> {
  const db = new DatabaseSync(":memory:");
  const dialect = embeddedDialect(
    db,
    () => {},
    () => disk.flush(),
  );
  return Store.open({ engine: "sqlite", dialect }, Date.now);
}

const put = (tx: Tx): Promise<unknown> =>
  tx.db.insertInto("settings").values({ key: "word", value: "kept" }).execute();

test("a write is answered, and can be read, only once it is flushed", async () => {
  const disk = { flush: (): Promise<void> => Promise.resolve() };
  const store = await storeOn(disk);
  const begun = Promise.withResolvers<void>();
  const flushed = Promise.withResolvers<void>();
  disk.flush = () => {
    begun.resolve();
    return flushed.promise;
  };
  const order: string[] = [];
  const writing = store.write(put).then(() => order.push("written"));
  await begun.promise;
  const reading = store.db
    .selectFrom("settings")
    .select("value")
    .where("key", "=", "word")
    .executeTakeFirst()
    .then((row) => order.push(`read ${row?.value}`));
  // What could be done without the flush has been done after a turn of the loop.
  await new Promise((resolve) => setImmediate(resolve));
  order.push("flushed");
  flushed.resolve();
  await Promise.all([writing, reading]);
  assert.equal(order[0], "flushed");
  assert.deepEqual(order.toSorted(), ["flushed", "read kept", "written"]);
  await store.close();
});

test("after a flush that failed nothing is written, though a later one would succeed", async () => {
  const disk = { flush: (): Promise<void> => Promise.resolve() };
  const store = await storeOn(disk);
  disk.flush = () => Promise.reject(new Error("EIO: i/o error, fdatasync"));
  const lost = { code: "unavailable", message: /the disk failed \(.*EIO/ };
  await assert.rejects(store.write(put), lost);
  let flushes = 0;
  disk.flush = () => {
    flushes += 1;
    return Promise.resolve();
  };
  await assert.rejects(store.write(put), lost);
  assert.equal(flushes, 0);
  assert.match(store.trouble ?? "", /the disk failed/);
  await store.close();
});
