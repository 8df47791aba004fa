// The page: what runs now, what waits, the history, and the dialog that asks before anything is done.

import { ask, onDone } from "./ask.js";
import { startLive } from "./live.js";
import { startPast } from "./past.js";

const live = startLive(ask);
const past = startPast(ask);
live.onEnded(() => past.refresh());
onDone(() => {
  live.refresh();
  past.refresh();
});
