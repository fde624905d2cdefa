import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ProviderError } from "../../domain/errors.ts";
import { FakeProvider, type FakeGuest, type FakeOptions } from "./fake.ts";

const never = new AbortController().signal;
const program = { files: [], command: ["true"], environment: {}, deadlineSeconds: 60 };

function spec(name: string) {
  const size = { cpu: 1, memoryMb: 512, diskGb: 1, gpu: 0, architecture: "x64" } as const;
  return { name, size, image: null, network: false, trust: ["trusted"] } as const;
}

/** A clock that stands still until it is told otherwise. */
function handClock() {
  let now = 1_000;
  const timers = new Set<{ at: number; fn: () => void }>();
  return {
    now: () => now,
    after(ms: number, fn: () => void) {
      const timer = { at: now + ms, fn };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
    advance(ms: number) {
      now += ms;
      for (const timer of timers) if (timer.at <= now && timers.delete(timer)) timer.fn();
    },
    timers,
  };
}

function fake(options: Partial<FakeOptions> = {}) {
  const clock = handClock();
  const provider = new FakeProvider({ name: "fake", installation: "abc", clock, ...options });
  return { clock, provider };
}

async function states(provider: FakeProvider): Promise<string[]> {
  return (await provider.list(never)).map(({ name, state }) => `${name} ${state}`);
}

describe("the fake provider", () => {
  it("fails as scripted, one step a call, and then works again", async () => {
    const { provider } = fake();
    provider.script("create", { fail: new ProviderError("no_capacity", "none left", 500) });
    const refused = provider.create(spec("abc-1"), program, never);
    await assert.rejects(refused, { kind: "no_capacity", retryAfterMs: 500 });
    assert.deepEqual(provider.alive(), []);
    await provider.create(spec("abc-1"), program, never);
    assert.deepEqual(await states(provider), ["abc-1 running"]);
    assert.deepEqual(provider.calls, { create: 2, list: 1, destroy: 0 });
  });

  it("can do its work although the answer is lost", async () => {
    const { provider } = fake();
    const lost = new ProviderError("unreachable", "timed out");
    provider.script("create", { fail: lost, effect: true });
    await assert.rejects(provider.create(spec("abc-1"), program, never), lost);
    assert.deepEqual(provider.alive(), ["abc-1"]);
    provider.script("destroy", { fail: lost, effect: true });
    await assert.rejects(provider.destroy("abc-1", never), lost);
    assert.deepEqual(provider.alive(), []);
  });

  it("waits by the clock it was given, and no longer than its signal", async () => {
    const { provider, clock } = fake();
    provider.script("create", { delayMs: 500 }, { hang: true });
    const slow = provider.create(spec("abc-1"), program, never);
    assert.deepEqual(provider.alive(), []);
    clock.advance(500);
    await slow;
    const giveUp = new AbortController();
    const hangs = provider.create(spec("abc-2"), program, giveUp.signal);
    giveUp.abort();
    await assert.rejects(hangs, { kind: "unreachable" });
    assert.deepEqual(provider.alive(), ["abc-1"]);
  });

  it("leaves no timer behind a call that was given up", async () => {
    const { provider, clock } = fake();
    const giveUp = new AbortController();
    provider.script("list", { delayMs: 500 });
    const slow = provider.list(giveUp.signal);
    giveUp.abort();
    await assert.rejects(slow, { kind: "unreachable" });
    assert.equal(clock.timers.size, 0);
  });

  it("lists a machine late when told to", async () => {
    const { provider } = fake({ always: { create: { hiddenLists: 2 } } });
    await provider.create(spec("abc-1"), program, never);
    assert.deepEqual(await states(provider), []);
    assert.deepEqual(await states(provider), []);
    assert.deepEqual(await states(provider), ["abc-1 running"]);
  });

  it("boots, dies, ends at its deadline, and vanishes", async () => {
    const { provider, clock } = fake({ bootMs: 2_000 });
    for (const n of [1, 2, 3]) await provider.create(spec(`abc-${n}`), program, never);
    assert.deepEqual(await states(provider), ["abc-1 booting", "abc-2 booting", "abc-3 booting"]);
    clock.advance(2_000);
    provider.die("abc-1", 137);
    provider.vanish("abc-2");
    assert.deepEqual(await states(provider), ["abc-1 ended", "abc-3 running"]);
    assert.equal((await provider.list(never))[0]?.exitCode, 137);
    clock.advance(58_000);
    assert.deepEqual(await states(provider), ["abc-1 ended", "abc-3 ended"]);
  });

  it("takes its time to destroy when told to", async () => {
    const { provider } = fake();
    await provider.create(spec("abc-1"), program, never);
    provider.script("destroy", { endings: 2 });
    assert.equal(await provider.destroy("abc-1", never), "ending");
    assert.deepEqual(await states(provider), ["abc-1 ended"]);
    assert.equal(await provider.destroy("abc-1", never), "ending");
    assert.equal(await provider.destroy("abc-1", never), "gone");
  });

  it("starts a callback as the guest, once booted, and tells it of the end", async () => {
    const guests: FakeGuest[] = [];
    const { provider, clock } = fake({ bootMs: 100, guest: (guest) => guests.push(guest) });
    await provider.create(spec("abc-1"), program, never);
    await provider.create(spec("abc-1"), program, never);
    assert.equal(guests.length, 0);
    clock.advance(100);
    assert.deepEqual(
      guests.map((guest) => guest.spec.name),
      ["abc-1"],
    );
    guests[0]?.exit(3);
    assert.equal((await provider.list(never))[0]?.exitCode, 3);
    assert.equal(guests[0]?.ended.aborted, true);
    assert.equal(clock.timers.size, 0);
    await provider.create(spec("abc-2"), program, never);
    clock.advance(100);
    await provider.destroy("abc-2", never);
    assert.equal(guests[1]?.ended.aborted, true);
  });
});
