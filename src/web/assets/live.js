// Keeps an open page true. Without it every page reads the same; it only has to be loaded again.

const refreshEveryMs = 2000;
const tickEveryMs = 1000;
const linesKept = 5000;
const state = document.getElementById("live-state");

// Parts of the page: fetched anew when the server says that something changed.

let refreshing = false;
let again = false;

async function refresh() {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.ok && !answer.redirected) {
      swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    }
  } catch {
    // The stream tells of a server that is gone, and of its return.
  }
  setTimeout(() => {
    refreshing = false;
    if (again) {
      again = false;
      void refresh();
    }
  }, refreshEveryMs);
}

// Only what differs is replaced, and nothing that somebody is using.
function swap(next) {
  for (const fresh of next.querySelectorAll("[data-part]")) {
    const part = document.querySelector(`[data-part="${CSS.escape(fresh.dataset.part)}"]`);
    if (part === null || seen.get(part) === fresh.innerHTML || isInUse(part)) continue;
    const focused = [...part.querySelectorAll("a, summary")].indexOf(document.activeElement);
    const open = [...part.querySelectorAll("details")].map((one) => one.open);
    seen.set(part, fresh.innerHTML);
    part.innerHTML = fresh.innerHTML;
    part.hidden = fresh.hidden;
    for (const [index, one] of part.querySelectorAll("details").entries()) {
      one.open = open[index] ?? false;
    }
    if (focused !== -1) part.querySelectorAll("a, summary")[focused]?.focus();
  }
  document.title = next.title;
  const time = document.querySelector(".as-of");
  const freshTime = next.querySelector(".as-of");
  if (time !== null && freshTime !== null) time.innerHTML = freshTime.innerHTML;
  setClock();
}

const seen = new WeakMap();

function isInUse(part) {
  const selection = getSelection();
  const isMarked =
    selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
  const isForm = document.activeElement?.matches("input, select, textarea, button") ?? false;
  return isMarked || (isForm && part.contains(document.activeElement));
}

// Streams are open only while somebody looks.

const opened = [];

function keepOpen(address, listen) {
  let source = null;
  const look = () => {
    if (document.hidden) {
      source?.close();
      source = null;
    } else if (source === null) {
      source = new EventSource(address);
      source.addEventListener("open", () => say("on", "live"));
      source.addEventListener("error", () => say("off", "not connected; trying again"));
      listen(source, () => {
        source?.close();
        document.removeEventListener("visibilitychange", look);
      });
    }
  };
  document.addEventListener("visibilitychange", look);
  opened.push(() => source?.close());
  look();
}

function say(kind, text) {
  if (state === null) return;
  state.hidden = false;
  state.className = `live-state ${kind}`;
  if (state.textContent !== text) state.textContent = text;
}

const topic = document.body.dataset.live;
if (topic !== undefined) {
  let isFirst = true;
  keepOpen(`/live?topic=${encodeURIComponent(topic)}`, (source) => {
    source.addEventListener("here", () => {
      // After a break or a rest, something may have been missed.
      if (!isFirst) void refresh();
      isFirst = false;
    });
    source.addEventListener("changed", () => void refresh());
  });
}

// The log: its end first, then line by line.

const box = document.getElementById("log-box");
const address = box?.dataset.log;
if (box !== null && address !== undefined) {
  const lines = document.getElementById("log-lines");
  const rest = document.getElementById("log-rest");
  const empty = box.querySelector(".log-empty");
  const isAtEnd = () => box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const change = (how) => {
    const follow = isAtEnd();
    how();
    while (lines.childElementCount > linesKept) lines.firstElementChild.remove();
    empty.hidden = lines.childElementCount + rest.childElementCount > 0;
    if (follow) box.scrollTop = box.scrollHeight;
  };
  keepOpen(address, (source, stop) => {
    source.addEventListener("tail", ({ data }) => change(() => (lines.innerHTML = data)));
    source.addEventListener("lines", ({ data }) =>
      change(() => lines.insertAdjacentHTML("beforeend", data)),
    );
    source.addEventListener("rest", ({ data }) => change(() => (rest.innerHTML = data)));
    source.addEventListener("end", () => {
      stop();
      void refresh();
    });
  });
}
if (box !== null) box.scrollTop = box.scrollHeight;

// Times, said as the server says them, and by its clock: ours may be wrong.

let clockAhead = 0;

function setClock() {
  const time = document.querySelector(".as-of time");
  if (time !== null) clockAhead = new Date().getTime() - Date.parse(time.dateTime);
}

function serverNow() {
  return new Date().getTime() - clockAhead;
}

setClock();

const units = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "min"],
  [1, "s"],
];

function ago(seconds) {
  const distance = Math.abs(seconds);
  if (distance < 1) return "just now";
  const [each, name] = units.find(([unit]) => distance >= unit) ?? [1, "s"];
  const text = `${Math.floor(distance / each)} ${name}`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

function lasting(seconds) {
  const index = units.findIndex(([unit]) => seconds >= unit);
  if (index === -1) return "0 s";
  const [each, name] = units[index];
  const [nextEach, nextName] = units[index + 1] ?? [1, ""];
  const next = Math.floor((seconds % each) / nextEach);
  const second = next > 0 && nextName !== "" ? ` ${next} ${nextName}` : "";
  return `${Math.floor(seconds / each)} ${name}${second}`;
}

setInterval(() => {
  if (document.hidden) return;
  for (const time of document.querySelectorAll("time[data-ago], time[data-lasting]")) {
    const seconds = Math.round((serverNow() - Date.parse(time.dateTime)) / 1000);
    const text = "lasting" in time.dataset ? lasting(Math.max(0, seconds)) : ago(seconds);
    if (time.textContent.trim() !== text) time.textContent = text;
  }
}, tickEveryMs);

// A slash goes to the search, as in many places; escape leaves it.

document.addEventListener("keydown", (event) => {
  const isTyping =
    event.target instanceof Element && event.target.matches("input, select, textarea");
  const find = document.getElementById("find");
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    find?.focus();
  } else if (event.key === "Escape" && document.activeElement === find) {
    find.blur();
  }
});

// A page kept for going back must not hold one of the few connections a browser has.
addEventListener("pagehide", () => {
  for (const close of opened) close();
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
