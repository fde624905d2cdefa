import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { ArrivalHistory, countMax, situationText, stepMs, weightAt } from "./forecast.ts";

const hour = 3_600_000;
const day = 24 * hour;
/** A Monday, midnight. */
const monday = Date.UTC(2026, 0, 5);

/** A history of `days` in which `arrivals` says how many came in the step at a moment. */
function historyOf(days: number, arrivals: (at: number) => number): ArrivalHistory {
  const history = new ArrivalHistory();
  for (let at = monday; at < monday + days * day; at += stepMs) {
    history.step(at, arrivals(at), weightAt(at, monday));
  }
  return history;
}

function chanceOf(history: ArrivalHistory, situation: number, count: number, at: number): number {
  const chances = history.chances(weightAt(at, monday));
  return chances.find((one) => one.situation === situation && one.count === count)?.chance ?? 0;
}

describe("a history of arrivals", () => {
  test("says nothing before it has seen a day", () => {
    const busy = historyOf(0.5, () => 1);
    assert.deepEqual(busy.chances(weightAt(monday + day / 2, monday)), []);
  });

  test("tells a busy hour from a quiet one, and working days from weekends", () => {
    // One job at ten past and at twenty to, from nine to ten on working days.
    const isWorkHour = (at: number) => {
      const weekday = new Date(at).getUTCDay();
      return new Date(at).getUTCHours() === 9 && weekday > 0 && weekday < 6;
    };
    const history = historyOf(14, (at) =>
      isWorkHour(at) && [10, 40].some((minute) => at % hour === minute * 60_000) ? 1 : 0,
    );
    const end = monday + 14 * day;
    const at = (weekday: number, hours: number) =>
      history.situation(
        end + weekday * day + hours * hour,
        Array.from({ length: 60 }, () => 0),
      );
    const nine = chanceOf(history, at(0, 9), 1, end);
    const ten = chanceOf(history, at(0, 10), 1, end);
    const sunday = chanceOf(history, at(6, 9), 1, end);
    assert.ok(nine > 0.05, `${nine}`);
    assert.ok(nine > 10 * ten && nine > 10 * sunday, `${nine} ${ten} ${sunday}`);
    assert.match(situationText(at(0, 9)), /^working days 09h UTC/);
    assert.match(situationText(at(6, 9)), /^weekends 09h UTC/);
  });

  test("learns that a first job is followed by others", () => {
    // Each third hour one job, and a minute later five more.
    const history = historyOf(5, (at) => {
      if (at % (3 * hour) === 0) return 1;
      return at % (3 * hour) === 60_000 ? 5 : 0;
    });
    const end = monday + 5 * day;
    const afterOne = history.situation(end, [...Array.from({ length: 59 }, () => 0), 1]);
    assert.equal(situationText(afterOne), "1 job in the last 5 min");
    assert.ok(chanceOf(history, afterOne, 5, end) > 0.9);
    assert.equal(chanceOf(history, afterOne, 6, end), 0);
  });

  test("forgets: what came lately counts more", () => {
    const history = historyOf(60, (at) => (at < monday + 20 * day && at % hour === 0 ? 3 : 0));
    const end = monday + 60 * day;
    const quiet = history.situation(
      end,
      Array.from({ length: 60 }, () => 0),
    );
    const all = historyOf(60, (at) => (at >= monday + 40 * day && at % hour === 0 ? 3 : 0));
    assert.ok(chanceOf(history, quiet, 1, end) < chanceOf(all, quiet, 1, end) / 2);
  });

  test("is the same after it was saved and read again, with weights begun anew", () => {
    const history = historyOf(3, (at) => (at % (20 * 60_000) === 0 ? 2 : 0));
    const end = monday + 3 * day;
    const restored = ArrivalHistory.restored(
      JSON.parse(JSON.stringify(history.save(weightAt(end, monday)))),
    );
    for (let at = end; at < end + day; at += stepMs) {
      const count = at % (20 * 60_000) === 0 ? 2 : 0;
      history.step(at, count, weightAt(at, monday));
      restored.step(at, count, weightAt(at, end));
    }
    const [one, other] = [
      history.chances(weightAt(end + day, monday)),
      restored.chances(weightAt(end + day, end)),
    ];
    assert.equal(one.length, other.length);
    one.forEach(({ chance }, index) => assert.ok(Math.abs(chance - other[index]!.chance) < 0.001));
  });
});

test("chances are chances, fall with the count, and shares add up, whatever came", () => {
  const arrivals = fc.array(fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 40 })), {
    minLength: 50,
    maxLength: 200,
  });
  fc.assert(
    fc.property(arrivals, (some) => {
      const history = historyOf(1.2, (at) => some[(at / stepMs) % some.length]!);
      const chances = history.chances(weightAt(monday + 1.2 * day, monday));
      const last = new Map<number, number>();
      for (const { situation, count, chance, share } of chances) {
        assert.ok(chance > 0 && chance <= 1 + 1e-9 && share > 0 && share <= 1 && count <= countMax);
        assert.ok(chance <= (last.get(situation) ?? 1) + 1e-9);
        last.set(situation, chance);
      }
      const shares = new Map(chances.map(({ situation, share }) => [situation, share]));
      assert.ok([...shares.values()].reduce((sum, share) => sum + share, 0) <= 1 + 1e-9);
      const { seen, recent } = history.save(1);
      assert.ok(seen.length < 100 && seen.every((counts) => counts.length <= countMax + 1));
      assert.ok(recent.length < 100);
    }),
    { numRuns: 30 },
  );
});
