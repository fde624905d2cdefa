import { html } from "hono/html";
import { excess } from "../../domain/capacity.ts";
import { counted } from "../../domain/words.ts";
import { poolViews } from "../api/fleet.ts";
import type { PoolView } from "../views.ts";
import type { Web } from "../web.ts";
import { bareReason } from "../why.ts";
import { relative, sizeText } from "../words.ts";
import type { Page } from "./layout.ts";
import { badge, emptyState, isolated, labelList, when, type Html } from "./parts.ts";

/** Each pool with its limits, what waits and lives in it, and the last plan with its reasons. */
export async function poolsPage(web: Web): Promise<Page> {
  const now = web.now();
  const pools = await poolViews(web);
  const content = html`<div class="lead">
      <h1>Pools</h1>
    </div>
    ${
      pools.length === 0
        ? emptyState(
            "No pool is configured, so no job can run. The reference of every key:",
            "mayfly config schema",
          )
        : ""
    }
    ${pools.map((pool) => poolCard(pool, now))}`;
  return { title: "Pools", section: "/pools", live: "all", content };
}

function poolCard(pool: PoolView, now: number): Html {
  const { counts } = pool;
  const alive = counts.booting + counts.idle + counts.busy + counts.ending;
  return html`<section
    class="card"
    id="pool-${encodeURIComponent(pool.name)}"
    aria-labelledby="name-${encodeURIComponent(pool.name)}"
    data-part="pool-${encodeURIComponent(pool.name)}"
  >
    <div class="heading">
      <h2 id="name-${encodeURIComponent(pool.name)}">${pool.name}</h2>
      <p class="soft">jobs of ${pool.forge}, machines by ${pool.provider}</p>
    </div>
    ${bar(pool)}
    <p>
      ${pool.max === 0 ? "Closed: no machine is made for it (max 0)." : ""}
      ${pool.max === 0 && alive === 0 ? "" : `${alive} of at most ${counted(pool.max, "machine")} alive${states(counts)}.`}
      ${
        counts.waiting === 0
          ? "Nothing waits."
          : html`<a href="/jobs?state=waiting&pool=${encodeURIComponent(pool.name)}"
              >${counted(counts.waiting, "job")} ${counts.waiting === 1 ? "waits" : "wait"}.</a
            >`
      }
    </p>
    ${tooLarge(pool)}
    <dl class="facts wide">
      <div>
        <dt>Machine</dt>
        <dd>${sizeText(pool.size)}</dd>
      </div>
      <div>
        <dt>At most</dt>
        <dd>${pool.maximum === null ? "what the provider has" : sizeText(pool.maximum)}</dd>
      </div>
      <div>
        <dt>Offers</dt>
        <dd>${labelList(pool.labels)}</dd>
      </div>
      <div>
        <dt>Accepts</dt>
        <dd>${pool.accept.join(", ")}</dd>
      </div>
      <div>
        <dt>Kept</dt>
        <dd>${kept(pool)}</dd>
      </div>
      <div>
        <dt>Network</dt>
        <dd>${pool.network ? "yes" : "none"}</dd>
      </div>
    </dl>
    ${planOf(pool, now)}
  </section>`;
}

/** What no job will ever get: said here, since nothing fails before a job comes. */
function tooLarge({ size, maximum }: PoolView): Html | "" {
  const beyond = maximum === null ? null : excess(size, maximum);
  if (beyond === null) return "";
  return html`<p class="warning">
    Its machines are larger than any there can be (${beyond}): no job will run in it.
  </p>`;
}

function states({ busy, idle, booting, ending }: PoolView["counts"]): string {
  const parts = [
    [busy, "busy"],
    [idle, "idle"],
    [booting, "starting"],
    [ending, "being removed"],
  ] as const;
  const said = parts.filter(([number]) => number > 0).map(([number, word]) => `${number} ${word}`);
  return said.length === 0 ? "" : `: ${said.join(", ")}`;
}

function kept({ min, warm }: PoolView): string {
  const parts = [
    ...(min > 0 ? [`at least ${min} alive`] : []),
    ...(warm > 0 ? [`${counted(warm, "idle machine")} ready`] : []),
  ];
  return parts.length === 0 ? "none without a job" : parts.join(", ");
}

/** How full the pool is, told by the sentence below it too. */
function bar({ counts, max }: PoolView): Html {
  const total = Math.max(1, max, counts.busy + counts.idle + counts.booting + counts.ending);
  let x = 0;
  return html`<svg class="fill" viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true">
    <rect class="room" x="0" y="0" width="100" height="4" />
    ${(["busy", "idle", "booting", "ending"] as const).map((state) => {
      const width = (counts[state] / total) * 100;
      x += width;
      return width === 0
        ? ""
        : html`<rect
            class="${state}"
            x="${(x - width).toFixed(2)}"
            y="0"
            width="${width.toFixed(2)}"
            height="4"
          />`;
    })}
  </svg>`;
}

const actionBadges = {
  claim: () => badge("run", "makes"),
  retire: () => badge("calm", "lets go"),
  hold: () => badge("wait", "holds"),
} as const;

function planOf({ plan }: PoolView, now: number): Html {
  if (plan === null) {
    return html`<p class="soft">
      No plan has been made here yet; another replica may hold this pool.
    </p>`;
  }
  if (plan.actions.length === 0) {
    return html`<p class="soft">Last plan ${when(plan.at, now)}: nothing to do.</p>`;
  }
  return html`<h3>Last plan, ${when(plan.at, now)}</h3>
    <ul class="plan">
      ${plan.actions.map(
        (action) =>
          html`<li>
            ${actionBadges[action.kind]()}
            <span>
              <strong>${counted(action.count, action.kind === "hold" ? "job" : "machine")}</strong>
              ${action.labels === null ? "" : html`for ${labelList(action.labels)}`}
              <span class="soft">${isolated(bareReason(action.reason))}</span>
              ${
                action.until === null || action.until <= now
                  ? ""
                  : html`<span class="soft">next try ${relative(action.until, now)}</span>`
              }
            </span>
          </li>`,
      )}
    </ul>`;
}
