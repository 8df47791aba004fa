// The dialog: names rollout, target and effect, acts only when it is confirmed, and tells what became of it.

import { byId, setText } from "./dom.js";
import { post } from "./requests.js";
import { percent } from "./words.js";

const of = (revision, words) => (revision ? `revision ${revision}` : words);

const ASKS = {
  pause: {
    title: "Pause this rollout?",
    yes: "Pause",
    effect: (row) => `The bake ends and the traffic stays at ${percent(row.weight ?? 0)} for ${of(row.candidate, "the candidate")} until ` +
      "somebody resumes, promotes or aborts. Without a decision it ends as its request says, or is rolled back after a day.",
  },
  resume: {
    title: "Resume this rollout?",
    yes: "Resume",
    effect: () => "The current step bakes again. After a failure it starts without the evidence so far.",
  },
  promote: {
    title: "Promote this rollout?",
    yes: "Promote",
    effect: (row) => `The current ${row.status === "paused" ? "pause" : "bake"} ends, and more traffic moves to ` +
      `${of(row.candidate, "the candidate")} now.`,
  },
  abort: {
    title: "Abort this rollout?",
    yes: "Abort the rollout",
    effect: (row) => row.status === "waiting"
      ? "The request leaves the line and is refused. No traffic moves."
      : `All traffic returns to ${of(row.stable, "the stable revision")}, and the rollout ends as rolled back. While a hook runs, ` +
        "this happens as soon as it has answered.",
  },
  undo: {
    title: "Undo this rollout?",
    yes: "Undo the rollout",
    effect: (row) => `A new rollout moves all traffic of the target at once from ${of(row.candidate, "what it serves")} back to ` +
      `${of(row.stable, "what it served before")}. It is refused if another revision was promoted since.`,
  },
};

let asked = null;
let done = () => {};

export const onDone = (listener) => { done = listener; };

export function ask(kind, row) {
  const { title, yes, effect } = ASKS[kind];
  asked = { kind, row, sent: false };
  setText(byId("ask-title"), title);
  setText(byId("ask-target"), row.target);
  setText(byId("ask-rollout"), row.id);
  setText(byId("ask-effect"), effect(row));
  setText(byId("ask-next"), nextText(row));
  byId("ask-form").reset();
  byId("ask-choice").hidden = kind !== "promote";
  byId("ask-why").hidden = kind === "undo";
  byId("ask-yes").hidden = false;
  byId("ask-yes").disabled = false;
  byId("ask-yes").className = kind === "abort" || kind === "undo" ? "danger" : "primary";
  setText(byId("ask-yes"), yes);
  setText(byId("ask-no"), "Cancel");
  showResult("", "");
  byId("ask").showModal();
  // A key that is still held down must not confirm.
  byId("ask-no").focus();
}

function nextText(row) {
  if (row.stepCount && row.step + 1 >= row.stepCount) return "To the promotion: it is the last step";
  return "To the next step now";
}

function showResult(kind, text) {
  byId("ask-result").className = `result ${kind}`;
  setText(byId("ask-result"), text);
}

async function confirmed() {
  const { kind, row } = asked;
  asked.sent = true;
  const mine = asked;
  byId("ask-yes").disabled = true;
  setText(byId("ask-no"), "Close");
  showResult("is-busy", "Sent. Waiting for the record …");
  let effect = "failed";
  let text;
  try {
    const how = kind === "promote" ? new FormData(byId("ask-form")).get("how") : kind;
    const answer = kind === "undo"
      ? await post("/api/undo", { id: row.id })
      : await post("/api/signal", { id: row.id, signal: how, reason: byId("ask-reason").value.trim() });
    ({ effect, text } = answer);
  } catch (error) {
    text = error.message;
  }
  done();
  // Somebody may have closed it and asked something else meanwhile.
  if (asked !== mine || !byId("ask").open) {
    setText(byId("announce"), `${row.id}: ${text}`);
    return;
  }
  byId("ask-yes").hidden = effect !== "failed";
  byId("ask-yes").disabled = false;
  showResult(`is-${effect}`, text);
  byId("ask-no").focus();
}

byId("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!byId("ask-yes").disabled && !byId("ask-yes").hidden) confirmed();
});
byId("ask-no").addEventListener("click", () => byId("ask").close());
byId("ask").addEventListener("close", () => {
  // The browser gives the focus back to the button that opened the dialog, which may be gone by now.
  const focused = document.activeElement;
  if (focused !== document.body && !byId("ask").contains(focused)) return;
  const card = document.querySelector(`[data-key="${CSS.escape(asked.row.id)}"]`);
  (card?.querySelector("button:not([hidden])") ?? byId("now")).focus();
});
