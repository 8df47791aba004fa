// The report of a rollout, in a frame that runs no script and has an origin of its own.

import { byId, el, setText } from "./dom.js";
import { get } from "./requests.js";

async function show() {
  const id = new URLSearchParams(location.search).get("id") ?? "";
  let report;
  try {
    report = await get(`/api/report?id=${encodeURIComponent(id)}`);
  } catch (error) {
    setText(byId("announce"), "");
    setText(byId("trouble"), error.message);
    byId("trouble").hidden = false;
    return;
  }
  document.title = report.id;
  const url = URL.createObjectURL(new Blob([report.html], { type: "text/html" }));
  const save = byId("save");
  save.href = url;
  save.download = `${report.id}.html`;
  save.hidden = false;
  const frame = el("iframe", { sandbox: "", src: url, title: `Report of ${report.id}`, class: "report" });
  // The keys that scroll a page act on the report.
  frame.addEventListener("load", () => frame.focus());
  document.body.append(frame);
  setText(byId("announce"), "");
}

show();
