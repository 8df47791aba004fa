// The history: a search, and pages from the newest to the oldest.

import { byId, el, keyed, setAttribute, setText } from "./dom.js";
import { get, reportUrl } from "./requests.js";
import * as words from "./words.js";

const ENDED = ["succeeded", "rolled-back", "refused", "stopped"];

export function startPast(ask) {
  const form = byId("search");
  const state = { query: "", after: null, next: null, page: 1, turn: 0 };

  async function load() {
    const turn = ++state.turn;
    const after = state.after ? `&after=${encodeURIComponent(state.after)}` : "";
    try {
      const page = await get(`/api/rollouts?${state.query}${after}`);
      // The answer to an earlier search may come later.
      if (turn !== state.turn) return;
      state.next = page.next ?? null;
      showRows(page.rollouts, ask);
      showError("");
      const found = page.rollouts.length ? words.plural(page.rollouts.length, "rollout") : "No rollout matches";
      setText(byId("page-note"), state.page > 1 || state.next ? `Page ${state.page}: ${found}` : found);
    } catch (error) {
      if (turn === state.turn) showError(error.message);
    }
    byId("older").disabled = !state.next;
    byId("newest").disabled = state.page === 1;
  }

  function begin() {
    state.query = queryOf(form);
    Object.assign(state, { after: null, next: null, page: 1 });
    return load();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    begin();
  });
  form.addEventListener("reset", () => setTimeout(begin));
  byId("newest").addEventListener("click", () => begin().then(() => byId("past").focus()));
  byId("older").addEventListener("click", () => {
    Object.assign(state, { after: state.next, page: state.page + 1 });
    load().then(() => byId("past").focus());
  });
  begin();
  // A page that somebody reads does not change under their eyes; the newest one goes on.
  return { refresh: () => { if (state.page === 1) load(); } };
}

function queryOf(form) {
  const query = new URLSearchParams();
  const given = new FormData(form);
  for (const name of ["target", "state"]) if (given.get(name)) query.set(name, given.get(name).trim());
  for (const name of ["since", "until"]) if (given.get(name)) query.set(name, new Date(given.get(name)).toISOString());
  return query.toString();
}

function showError(text) {
  byId("search-trouble").hidden = !text;
  setText(byId("search-trouble"), text);
}

function showRows(rows, ask) {
  keyed(byId("history"), rows, (row) => row.id, (row) => makeRow(row, ask), updateRow);
  const targets = new Set([...byId("targets").children].map((option) => option.value));
  for (const { target } of rows) if (target && !targets.has(target)) {
    targets.add(target);
    byId("targets").append(el("option", { value: target }));
  }
}

const COLUMNS = ["Target", "Rollout", "State", "Revision", "Requested", "Took", "Reason", "Action"];

function makeRow(row, ask) {
  const cells = COLUMNS.map((name) => el("td", { role: "cell", "data-label": name, class: `is-${name.toLowerCase()}` }));
  cells[1].append(el("a", { href: reportUrl(row.id) }, row.id));
  cells[2].append(el("span", { class: "status" }));
  cells[4].append(el("span"), " ", el("span"));
  const undo = el("button", { type: "button", class: "act-undo", "aria-label": `Undo ${row.id}` }, "Undo");
  const made = el("tr", { role: "row" }, ...cells);
  undo.addEventListener("click", () => ask("undo", made.row));
  cells[7].append(undo);
  return made;
}

function updateRow(node, row) {
  node.row = row;
  const [target, , state, revision, requested, took, reason, action] = node.children;
  setText(target, row.target || "(unreadable request)");
  setText(state.firstChild, words.STATUS[row.status] ?? row.status);
  setAttribute(state.firstChild, "class", `status is-${row.status}`);
  setText(revision, row.candidate ? (row.stable ? `${row.stable} → ${row.candidate}` : row.candidate) : "");
  const [day = "", time = ""] = row.createdAt ? words.localTime(row.createdAt).split(" ") : [];
  setText(requested.firstChild, day);
  setText(requested.lastChild, time);
  const from = row.startedAt ?? row.createdAt;
  setText(took, from && row.endedAt ? words.duration(words.secondsBetween(from, row.endedAt)) : "");
  setText(reason, row.undoneBy ? `Undone by ${row.undoneBy}. ${row.reason}` : row.reason);
  action.firstChild.hidden = row.status !== "succeeded" || Boolean(row.undoneBy);
  setAttribute(node, "class", ENDED.includes(row.status) ? "" : "is-open");
}
