import { html } from "hono/html";
import type { BrokerStats } from "../../broker/broker.ts";
import { formatUsd } from "../../domain/money.ts";
import { counted } from "../../domain/words.ts";
import type { ForgeHealth, ProviderHealth } from "../../fleet/api.ts";
import type { Check } from "../../providers/provider.ts";
import { listLeases, type HeldLease } from "../../store/statistics.ts";
import type { Web } from "../web.ts";
import { relative, sizeText } from "../words.ts";
import type { Page } from "./layout.ts";
import { badge, emptyState, isolated, labelList, prose, table, when, type Html } from "./parts.ts";

/** Providers with what they need, forges, the store, and who holds what. */
export async function healthPage(web: Web): Promise<Page> {
  const { fleet } = web;
  const now = web.now();
  const [ready, leases, checks, lent] = await Promise.all([
    fleet.ready(),
    listLeases(fleet.store.db),
    Promise.all(fleet.providers().map(async (one) => [one, await web.checks.of(one)] as const)),
    web.broker?.stats() ?? null,
  ]);
  const isSound =
    checks.every(
      ([{ backOff }, results]) => !isAhead(backOff, now) && results.every(({ ok }) => ok),
    ) &&
    fleet.forges().every(({ failure }) => failure === null) &&
    (lent === null || lent.state === "well");
  const verdict = !ready.ok
    ? "Not ready."
    : isSound
      ? "All is well."
      : "Running, but not all is well.";
  const content = html`<div class="lead" data-part="lead">
      <h1>${verdict}</h1>
      ${ready.ok ? "" : html`<p>${ready.detail}</p>`}
    </div>
    <section aria-labelledby="providers">
      <h2 id="providers">Providers</h2>
      ${checks.length === 0 ? emptyState("No provider is configured.") : ""}
      ${checks.map(([provider, results]) => providerCard(provider, results, now))}
    </section>
    <section aria-labelledby="forges" data-part="forges">
      <h2 id="forges">Forges</h2>
      ${forgeTable(fleet.forges(), now)}
    </section>
    ${lent === null ? "" : brokerSection(lent)}
    <section aria-labelledby="store" data-part="store">
      <h2 id="store">Store</h2>
      <p>
        ${fleet.store.engine === "sqlite" ? "SQLite, in the state folder" : "PostgreSQL"}.
        ${web.streams.open === 0 ? "" : `${counted(web.streams.open, "live stream")} open.`}
      </p>
      ${leases.length === 0 ? "" : leaseTable(leases, now)}
    </section>`;
  return { title: "Health", section: "/health", live: "all", content };
}

function isAhead(backOff: ProviderHealth["backOff"], now: number): boolean {
  return backOff !== null && backOff.until > now;
}

function providerCard(provider: ProviderHealth, checks: readonly Check[], now: number): Html {
  const { capabilities, backOff } = provider;
  const isHeld = backOff !== null && backOff.until > now;
  const isSound = checks.every(({ ok }) => ok);
  return html`<article class="card" data-part="provider-${encodeURIComponent(provider.name)}">
    <div class="heading">
      <h3>${provider.name}</h3>
      ${
        isHeld
          ? badge("wait", "left alone for a while")
          : isSound
            ? badge("good", "well")
            : badge("bad", "lacks something")
      }
    </div>
    ${
      isHeld
        ? html`<p class="notice bad">
            Asked again ${relative(backOff.until, now)}, after
            ${counted(backOff.failures, "failure")} in a row: ${isolated(backOff.reason)}
          </p>`
        : ""
    }
    <ul class="checks">
      ${checks.map(
        ({ name, ok, detail, mend }) =>
          html`<li class="${ok ? "ok" : "not-ok"}">
            <strong>${name}</strong> <span class="unseen">${ok ? "is well:" : "is missing:"}</span>
            ${isolated(detail)}
            ${mend === null ? "" : html`<span class="mend">${prose(mend)}</span>`}
          </li>`,
      )}
    </ul>
    <dl class="facts wide">
      <div>
        <dt>Largest</dt>
        <dd>${sizeText(capabilities.maximum)}</dd>
      </div>
      <div>
        <dt>Architectures</dt>
        <dd>${capabilities.architectures.join(", ")}</dd>
      </div>
      <div>
        <dt>Good for</dt>
        <dd>${capabilities.accepts.join(", ")}</dd>
      </div>
      <div>
        <dt>Lends</dt>
        <dd>${labelList(capabilities.labels)}</dd>
      </div>
      <div>
        <dt>Last listing</dt>
        <dd>${provider.listedAt === null ? "none yet" : when(provider.listedAt, now)}</dd>
      </div>
    </dl>
  </article>`;
}

function forgeTable(forges: readonly ForgeHealth[], now: number): Html {
  if (forges.length === 0) return emptyState("No forge is configured; jobs are submitted by hand.");
  return table(
    "Forges and their last poll",
    [
      { name: "Forge", kind: "title", cell: ({ name }) => html`${name}` },
      {
        name: "State",
        cell: ({ failure, polledAt }) =>
          failure !== null
            ? badge("bad", "does not answer")
            : polledAt === null
              ? badge("calm", "not asked yet")
              : badge("good", "well"),
      },
      {
        name: "Last poll",
        cell: ({ polledAt }) => (polledAt === null ? html`—` : when(polledAt, now)),
      },
      { name: "Trouble", kind: "wide", cell: ({ failure }) => isolated(failure ?? "") },
    ],
    forges,
  );
}

const budgetBadges = {
  well: badge("good", "well"),
  low: badge("wait", "nearly spent"),
  refusing: badge("bad", "orders are refused"),
} as const;

function brokerSection({ open, todayMicroUsd, microUsdPerDay, state }: BrokerStats): Html {
  return html`<section aria-labelledby="broker" data-part="broker">
    <h2 id="broker">Broker</h2>
    <p>
      ${counted(open, "machine")} lent now. Today's budget: ${formatUsd(todayMicroUsd)} of
      ${formatUsd(microUsdPerDay)} spent or kept for what is lent. ${budgetBadges[state]}
    </p>
  </section>`;
}

function leaseTable(leases: readonly HeldLease[], now: number): Html {
  return table(
    "Who acts for what",
    [
      {
        name: "Lease",
        kind: "title",
        cell: ({ resource }) => html`<span class="name">${resource}</span>`,
      },
      {
        name: "Held by",
        kind: "wide",
        cell: ({ holder }) => html`<span class="name">${holder}</span>`,
      },
      {
        name: "Until",
        cell: ({ expiresAt }) =>
          expiresAt <= now ? html`<span class="soft">run out</span>` : when(expiresAt, now),
      },
    ],
    leases,
  );
}
