// The rollouts that have not ended, about every two seconds while the page is visible.

import { byId, el, keyed, setAttribute, setText } from "./dom.js";
import { get, reportUrl } from "./requests.js";
import * as words from "./words.js";

const EVERY = 2000;

export function startLive(ask) {
  const state = { last: null, offset: 0, ended: () => {}, timer: 0, polling: false, known: new Map() };

  async function poll() {
    if (state.polling) return;
    state.polling = true;
    clearTimeout(state.timer);
    try {
      show(await get("/api/now"), state, ask);
    } catch (error) {
      showTrouble({ text: error.message });
    } finally {
      state.polling = false;
      // Nobody looks at a hidden page: it asks again as soon as somebody does.
      if (document.visibilityState === "visible") state.timer = setTimeout(poll, EVERY);
    }
  }

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") poll();
    else clearTimeout(state.timer);
  });
  setInterval(() => {
    if (document.visibilityState === "visible") tick(state);
  }, 1000);
  poll();
  return { refresh: poll, onEnded: (listener) => { state.ended = listener; } };
}

function show(reading, state, ask) {
  state.offset = Date.parse(reading.now) - Date.now();
  showTrouble(reading.trouble, reading);
  if (!reading.at) {
    setText(byId("counts"), reading.trouble ? "Nothing is known yet." : "Reading the records …");
    return;
  }
  const before = state.last;
  state.last = reading;
  setText(byId("counts"), countsText(reading));
  keyed(byId("rollouts"), reading.rollouts, (row) => row.id, (row) => makeCard(row, ask), updateCard);
  keyed(byId("lines"), reading.lines, (line) => line.target, makeLine, (node, line) => updateLine(node, line, ask));
  byId("waiting-section").hidden = reading.lines.length === 0;
  tick(state);
  announce(reading, state);
  if (before && before.at !== reading.at && hasLost(before, reading)) state.ended();
}

function showTrouble(trouble, reading = {}) {
  const banner = byId("trouble");
  // The same text each time: a screen reader says an alert again when it changes.
  const slow = reading.isSlow ? "AWS is slow to answer; the page waits for it." : "";
  const since = trouble?.since ? ` This lasts since ${words.clock(trouble.since)}; the page tries again by itself.` : "";
  const old = reading.at && (trouble || slow) ? ` What it shows is from ${words.clock(reading.at)}.` : "";
  const text = trouble ? `${sentence(trouble.text)}${since}${old}` : slow && `${slow}${old}`;
  banner.hidden = !text;
  setText(banner, text);
  if (reading.at) setText(byId("fresh"), `as of ${words.clock(reading.at)}, times in ${words.ZONE}`);
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

function countsText({ counts, isAll, rollouts, lines }) {
  const all = counts.running + counts.paused;
  if (all + counts.waiting === 0) return "No rollout runs.";
  const least = isAll ? "" : "at least ";
  const parts = [`${least}${words.number(counts.running)} running`, `${words.number(counts.paused)} paused`,
    `${words.number(counts.waiting)} waiting`];
  const shown = rollouts.length < all ? ` The newest ${words.number(rollouts.length)} are shown, paused ones first.` : "";
  const inLine = lines.reduce((sum, { line }) => sum + line.length, 0);
  const more = inLine < counts.waiting ? ` Of those that wait, the newest ${words.number(inLine)} are shown.` : "";
  return `${sentence(parts.join(", "))}${shown}${more}`;
}

const hasLost = (before, now) => {
  const ids = new Set([...now.rollouts, ...now.lines.flatMap(({ line }) => line)].map(({ id }) => id));
  return [...before.rollouts, ...before.lines.flatMap(({ line }) => line)].some(({ id }) => !ids.has(id));
};

// Only what a person may have to act on is said aloud.
function announce(reading, state) {
  const known = state.known;
  state.known = new Map(reading.rollouts.map((row) => [row.id, row.status]));
  if (known.size === 0) return;
  const paused = reading.rollouts.filter((row) => row.status === "paused" && known.has(row.id) && known.get(row.id) !== "paused");
  if (paused.length) setText(byId("announce"), paused.map((row) => `${row.id} is paused.`).join(" "));
}

function makeCard(row, ask) {
  const title = `rollout-${row.id}`;
  const card = el("li", { class: "rollout" });
  card.append(
    el("article", { "aria-labelledby": title },
      el("header", {},
        el("h3", { id: title, class: "target" }),
        el("span", { class: "status" }),
        el("a", { class: "id", href: reportUrl(row.id) })),
      el("p", { class: "headline" }),
      el("div", { class: "weight", role: "img" }, el("span")),
      el("p", { class: "facts" }, el("span", { class: "split" }), el("span", { class: "step" }), el("span", { class: "left" })),
      el("div", { class: "evidence", hidden: true }, comparisonTable()),
      el("ul", { class: "notes" }),
      el("div", { class: "buttons", role: "group", "aria-label": `Actions for ${row.id}` })));
  card.ask = ask;
  return card;
}

const comparisonTable = () =>
  el("table", {},
    el("thead", {}, el("tr", {}, ...["Measure", "Candidate", "Stable", "Evidence"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody"));

function updateCard(card, row) {
  const find = (name) => card.querySelector(name);
  card.row = row;
  setText(find(".target"), row.target || "(unreadable request)");
  setText(find(".status"), words.STATUS[row.status] ?? row.status);
  setAttribute(find(".status"), "class", `status is-${row.status}`);
  setText(find(".id"), row.id);
  setAttribute(find(".id"), "aria-label", `Report of ${row.id}`);
  setText(find(".headline"), row.headline);
  const weight = row.weight ?? 0;
  const split = `${words.percent(weight)} to ${row.candidate || "the candidate"}, ${words.percent(100 - weight)} to ${row.stable || "the stable revision"}`;
  find(".weight span").style.width = `${weight}%`;
  setAttribute(find(".weight"), "aria-label", split);
  setText(find(".split"), split);
  setText(find(".step"), stepText(row));
  updateComparisons(find(".evidence"), row.comparisons ?? []);
  keyed(find(".notes"), notes(row), (note) => note, () => el("li"), (node, note) => setText(node, note));
  updateButtons(find(".buttons"), row, card.ask);
}

function stepText(row) {
  const phase = (row.phase ?? "").replace("-", " ");
  if (!row.stepCount || row.status === "accepted") return phase;
  return row.step < row.stepCount ? `step ${row.step + 1} of ${row.stepCount}, ${phase}` : phase;
}

function updateComparisons(box, comparisons) {
  box.hidden = comparisons.length === 0;
  keyed(box.querySelector("tbody"), comparisons, (each) => each.measure,
    () => el("tr", {},
      el("th", { scope: "row" }), el("td", { class: "candidate" }), el("td", { class: "stable" }),
      el("td", { class: "evidence" }, el("span", { class: "meter", "aria-hidden": "true" }, el("span")), el("span", { class: "value" }))),
    (node, each) => {
      const share = words.evidenceShare(each);
      setText(node.querySelector("th"), words.guardText(each));
      setText(node.querySelector(".candidate"), words.failed(each.candidate));
      setText(node.querySelector(".stable"), words.failed(each.stable));
      setText(node.querySelector(".value"), words.evidenceText(each));
      node.querySelector(".meter span").style.width = `${100 * share}%`;
      setAttribute(node.querySelector(".meter"), "class", `meter${share >= 1 ? " is-over" : ""}`);
    });
}

function notes(row) {
  const found = [];
  if (row.pause) {
    const then = row.pause.then === "promote" ? "it is promoted" : "it is rolled back";
    found.push(`Paused: ${row.pause.reason}. Without a decision ${then} at ${words.localTime(row.pause.until)}.`);
  }
  for (const group of row.groups ?? []) {
    const act = group.action === "pause" ? "pause" : "roll back";
    found.push(`Averaged evidence of the guards that ${act}: ${words.evidenceText(group)}`);
  }
  if (row.waitsFor) found.push(`Waits for: ${row.waitsFor.reason}`);
  for (const signal of row.pending ?? []) found.push(`Signal ${signal.signal} by ${signal.by} is on record and has not acted yet.`);
  for (const warning of row.warnings ?? []) found.push(`Warning: ${warning}`);
  return [...new Set(found)];
}

const BUTTONS = [["pause", "Pause"], ["resume", "Resume"], ["promote", "Promote"], ["abort", "Abort"]];

function updateButtons(box, row, ask) {
  const wanted = BUTTONS.filter(([kind]) => row.actions.includes(kind));
  keyed(box, wanted, ([kind]) => kind,
    ([kind, label]) => {
      const button = el("button", { type: "button", class: `act-${kind}`, "aria-label": `${label} ${row.id}` }, label);
      button.addEventListener("click", () => ask(kind, box.closest(".rollout, .waiter").row));
      return button;
    },
    () => {});
}

function makeLine(line) {
  return el("li", { class: "line" }, el("h3", { class: "target" }, line.target), el("ol", {}));
}

function updateLine(node, line, ask) {
  keyed(node.querySelector("ol"), line.line, (row) => row.id,
    (row) => el("li", { class: "waiter" },
      el("a", { href: reportUrl(row.id), "aria-label": `Report of ${row.id}` }, row.id),
      el("span", { class: "headline" }),
      el("span", { class: "left" }),
      el("div", { class: "buttons", role: "group", "aria-label": `Actions for ${row.id}` })),
    (item, row) => {
      item.row = row;
      if (row.line) setAttribute(item, "value", String(row.line.place));
      setText(item.querySelector(".headline"), row.headline);
      updateButtons(item.querySelector(".buttons"), { ...row, actions: row.actions.filter((kind) => kind === "abort") }, ask);
    });
}

// What changes each second without a new reading.
function tick(state) {
  const now = Date.now() + state.offset;
  for (const node of document.querySelectorAll(".rollout, .waiter")) {
    const { bake, pause, line } = node.row ?? {};
    const until = pause?.until ?? bake?.until ?? line?.until;
    const what = pause ? "left to decide" : bake ? "left in this bake" : "left in line";
    const seconds = until ? (Date.parse(until) - now) / 1000 : NaN;
    setText(node.querySelector(".left"), seconds >= 0 ? `${words.duration(seconds)} ${what}` : "");
  }
}
