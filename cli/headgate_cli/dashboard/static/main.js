// The page: what runs now, what waits, the history, and the dialog that asks before anything is done.

import { ask, onDone } from "./ask.js";
import { byId, el } from "./dom.js";
import { startLive } from "./live.js";
import { startPast } from "./past.js";
import { get } from "./requests.js";

async function tellWhere() {
  try {
    const { stack, region } = await get("/api/about");
    document.title = `Headgate: ${stack}`;
    byId("where").replaceChildren("stack ", el("b", {}, stack), ...(region ? [" in ", el("b", {}, region)] : []));
  } catch {
    // The other requests say why. It may be let in later.
    setTimeout(tellWhere, 5000);
  }
}

tellWhere();
const live = startLive(ask);
const past = startPast(ask);
live.onEnded(() => past.refresh());
onDone(() => {
  live.refresh();
  past.refresh();
});
