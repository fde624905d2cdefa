import { brokerForge } from "../domain/broker.ts";
import type { LabelParts } from "../domain/broker-label.ts";
import { MayflyError } from "../domain/errors.ts";
import type { Price } from "../domain/money.ts";
import type { Pool } from "../domain/pool.ts";
import { listed, quote } from "../domain/words.ts";
import type { Intake } from "../fleet/api.ts";
import type { Clock } from "../fleet/clock.ts";
import type { Log } from "../fleet/log.ts";
import type { Forge } from "../forges/forge.ts";
import { countOpenLoans, loansOf, spentToday } from "../store/loans.ts";
import type { Store } from "../store/store.ts";
import { addressKey, Addresses } from "./addresses.ts";
import { Bell } from "./bell.ts";
import { budgetState } from "./checks.ts";
import { giveBack } from "./give-back.ts";
import { findRun } from "./find-run.ts";
import { draft, record, type Draft } from "./lend.ts";
import type { LookUps } from "./look-ups.ts";
import { endOrder, lateReason, machinesOf, type LentMachine } from "./orders.ts";
import { isSameName, type Terms } from "./terms.ts";

export interface BrokerParts {
  readonly terms: Terms;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly lookUps: LookUps;
  readonly intake: Intake;
  /** The configured forge. */
  readonly inner: Forge;
  /** What the fleet sees of what is lent. */
  readonly lender: Forge;
  /** The broker's own. */
  readonly pools: readonly Pool[];
  readonly price: (pool: Pool) => Price;
}

/** What somebody asks to borrow. */
export interface Wish {
  readonly label: string;
  readonly architectures: readonly string[];
  /** True: `runs-on` has the label alone, which names its architecture. */
  readonly isInLabel: boolean;
  readonly repository: string | null;
  readonly run: string | null;
}

export interface BrokerStats {
  readonly open: number;
  readonly todayMicroUsd: number;
  readonly microUsdPerDay: number;
  readonly state: "well" | "low" | "refusing";
}

const waitersMax = 200;
const waitersOfAddressMax = 8;
/** A refusal for want of budget is remembered for the health page. */
const refusalShownMs = 3600_000;

/**
 * Lends machines to runs of certain repositories, to whoever asks and without a secret: what counts
 * is what the forge says of the run. Nothing is recorded before every check is passed, and the checks
 * go from cheap to dear.
 */
export class Broker {
  readonly #parts: BrokerParts;
  readonly #addresses: Addresses;
  readonly #waiters = new Map<string, number>();
  #waiting = 0;
  #refusedAt = -Infinity;
  #toldDay = -1;

  constructor(parts: BrokerParts) {
    this.#parts = parts;
    this.#addresses = new Addresses(parts.clock.now);
  }

  /** Each request's first step. Throws `too_many`. */
  admit(address: string | null): void {
    if (this.#addresses.take(addressKey(address))) return;
    throw new MayflyError("too_many", "this address asks too often", {
      hint: "Ask again in some seconds.",
    });
  }

  /** All that may be asked for. */
  get architectures(): readonly string[] {
    return Object.keys(this.#parts.terms.settings.pools);
  }

  /** The label of a run that is known by its number, where the template needs no more. */
  labelOf(run: string, attempt: number): string | null {
    return this.#parts.terms.template.of(run, attempt);
  }

  /**
   * Lends what is wished for, or finds it lent already. Resolves once it is recorded. Throws
   * `invalid`, `forbidden`, `conflict`, `too_many`, `unavailable`, each with one readable sentence.
   */
  async lend(wish: Wish, address: string | null): Promise<readonly LentMachine[]> {
    const { store, lookUps, terms } = this.#parts;
    const label = this.#checkedLabel(wish);
    const known = await loansOf(store.db, wish.label);
    const { repository } = wish;
    if (repository !== null && known.some((loan) => !isSameName(loan.repository, repository))) {
      throw new MayflyError("forbidden", "this label is another repository's");
    }
    const missing = wish.architectures.filter((one) =>
      known.every(({ architecture }) => architecture !== one),
    );
    if (missing.length > 0) {
      const hints = { ...wish, label, architectures: missing };
      const found = await findRun({ db: store.db, terms, lookUps }, hints);
      const from = addressKey(address);
      await this.#record(missing.map((one) => draft(this.#parts, wish, one, found, from)));
    }
    return this.machines(wish.label);
  }

  /**
   * Resolves when every runner of these is registered. Throws when the order is over or given up at
   * its deadline, which counts from when it was made, and `unavailable` when `signal` aborts.
   */
  async ready(wish: Wish, address: string | null, signal: AbortSignal): Promise<void> {
    const leave = this.#enter(addressKey(address));
    try {
      const asked = await this.#lookUntil(wish.label, signal, (machines) => {
        const ours = machines.filter(({ loan }) => wish.architectures.includes(loan.architecture));
        return ours.every(({ state }) => state !== "waiting") ? ours : null;
      });
      const over = asked.find(({ state }) => state === "over");
      if (over === undefined) return;
      throw new MayflyError("conflict", `${quote(wish.label)} is over: ${over.reason}`);
    } finally {
      leave();
    }
  }

  /** The same with an end for whoever asks again: resolves at `waitMs` whatever there is. */
  async changed(
    label: string,
    address: string | null,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<readonly LentMachine[]> {
    const leave = this.#enter(addressKey(address));
    try {
      const until = this.#parts.clock.now() + waitMs;
      return await this.#lookUntil(label, signal, (machines) => {
        const isDecided = machines.every(({ state }) => state !== "waiting");
        return isDecided || this.#parts.clock.now() >= until ? machines : null;
      });
    } finally {
      leave();
    }
  }

  /** All that was lent under a label. Empty: nothing. */
  async machines(label: string): Promise<readonly LentMachine[]> {
    const { db } = this.#parts.store;
    return machinesOf(db, await loansOf(db, label));
  }

  /**
   * Takes back what was lent under these labels, once no job of its run needs it. What is over or
   * unknown is well. Throws `invalid` for what is no label, and then nothing is touched, and
   * `conflict` while jobs need it.
   */
  async giveBack(labels: readonly string[]): Promise<void> {
    for (const label of labels) this.#parse(label);
    for (const label of labels) await giveBack(this.#parts, label);
  }

  async stats(): Promise<BrokerStats> {
    const { store, clock, terms } = this.#parts;
    const { microUsdPerDay } = terms.settings;
    const todayMicroUsd = await spentToday(store.db, clock.now());
    const isRefusing = clock.now() - this.#refusedAt < refusalShownMs;
    const state = isRefusing ? "refusing" : budgetState(todayMicroUsd, terms.settings);
    return { open: await countOpenLoans(store.db), todayMicroUsd, microUsdPerDay, state };
  }

  #checkedLabel(wish: Wish): LabelParts {
    const { settings } = this.#parts.terms;
    const label = this.#parse(wish.label);
    const unknown = wish.architectures.find((one) => !Object.hasOwn(settings.pools, one));
    if (unknown !== undefined) {
      const hint = `There are ${listed(Object.keys(settings.pools))}.`;
      throw new MayflyError("invalid", `there are no machines of ${quote(unknown)}`, { hint });
    }
    if (wish.isInLabel && label.architecture !== wish.architectures[0]) {
      throw new MayflyError("invalid", `the label must end in _${wish.architectures[0] ?? ""}`);
    }
    if (!wish.isInLabel && label.architecture !== null) {
      throw new MayflyError("invalid", "the label must not name an architecture");
    }
    return label;
  }

  #parse(label: string): LabelParts {
    const { template } = this.#parts.terms;
    const parts = template.parse(label);
    if (parts !== null) return parts;
    throw new MayflyError("invalid", `${quote(label)} is no label of this broker`, {
      hint: `They read ${template.text}.`,
    });
  }

  async #record(drafts: readonly Draft[]): Promise<void> {
    const { store, terms, log } = this.#parts;
    const outcome = await record(store, terms, drafts);
    if (outcome instanceof MayflyError) {
      if (outcome.code === "forbidden") this.#tellBudget(outcome.message, true);
      throw outcome;
    }
    if (outcome === "low") {
      this.#tellBudget("the broker's budget of today is nearly lent", false);
    }
    for (const { loan } of drafts) {
      const { id, repository, run, address } = loan;
      log.info({ loan: id, repository, run, address }, "lent a machine");
    }
  }

  /** Once a day that it runs low, and each hour that somebody is refused for it. */
  #tellBudget(message: string, isRefusal: boolean): void {
    const { clock, log } = this.#parts;
    const now = clock.now();
    const day = Math.floor(now / (24 * refusalShownMs));
    const isTold = isRefusal ? now - this.#refusedAt < refusalShownMs : this.#toldDay === day;
    if (isRefusal) this.#refusedAt = now;
    else this.#toldDay = day;
    if (!isTold) log.warn({}, isRefusal ? `the broker refuses an order: ${message}` : message);
  }

  /** Looks at an order until `decide` has something, or it is given up at its deadline. */
  async #lookUntil(
    label: string,
    signal: AbortSignal,
    decide: (machines: readonly LentMachine[]) => readonly LentMachine[] | null,
  ): Promise<readonly LentMachine[]> {
    const { store, clock, terms } = this.#parts;
    const bell = new Bell(store, clock, (topic) =>
      topic.startsWith(`job/${brokerForge}-${label}.`),
    );
    try {
      for (;;) {
        const rung = bell.next(signal);
        const machines = await this.machines(label);
        const decided = decide(machines);
        if (decided !== null) return decided;
        if (signal.aborted) {
          throw new MayflyError("unavailable", "this Mayfly is stopping", {
            hint: "Ask again: what was lent stays lent.",
          });
        }
        const late = machines.find(
          ({ loan, state }) =>
            state === "waiting" && clock.now() >= loan.lentAt + terms.settings.answerSeconds * 1000,
        );
        if (late === undefined) await rung;
        else {
          const reason = await lateReason(store.db, late.loan, terms.settings.answerSeconds);
          await store.write((tx) => endOrder(tx, label, "error", reason));
        }
      }
    } finally {
      bell.stop();
    }
  }

  #enter(address: string): () => void {
    const own = this.#waiters.get(address) ?? 0;
    if (this.#waiting >= waitersMax || own >= waitersOfAddressMax) {
      throw new MayflyError("too_many", "too many wait for their machines at once", {
        hint: "Ask again in some seconds: what was lent stays lent.",
      });
    }
    this.#waiting += 1;
    this.#waiters.set(address, own + 1);
    return () => {
      this.#waiting -= 1;
      const now = (this.#waiters.get(address) ?? 1) - 1;
      if (now === 0) this.#waiters.delete(address);
      else this.#waiters.set(address, now);
    };
  }
}
