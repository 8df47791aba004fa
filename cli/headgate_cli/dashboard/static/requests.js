// Requests to the dashboard itself. There are no others.

// The browser keeps it for this host and port, and all tabs share it. Unlike a cookie it is sent to nobody by itself.
const KEPT = "headgate-session";

const TOKEN = "#token=";

export class DashboardError extends Error {}

async function answered(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new DashboardError("The dashboard does not answer. If it was stopped, run headgate dashboard again.");
  }
  let body = {};
  try {
    body = await response.json();
  } catch {
    // An answer that is no JSON is told by its status.
  }
  if (!response.ok) throw new DashboardError(body.error ?? `The dashboard answered with status ${response.status}.`);
  return body;
}

function send(path, headers, body) {
  const options = { credentials: "omit", redirect: "error", headers };
  if (body !== undefined) {
    Object.assign(options, { method: "POST", body: JSON.stringify(body) });
    headers["Content-Type"] = "application/json";
  }
  return answered(fetch(path, options));
}

// Exchanges the token of the URL for a session. It does not stay in the address bar, nor in what somebody copies from it.
async function enter() {
  if (!location.hash.startsWith(TOKEN)) return;
  const token = location.hash.slice(TOKEN.length);
  history.replaceState(null, "", location.pathname + location.search);
  try {
    const { session } = await send("/api/session", { "X-Headgate-Token": encodeURIComponent(token) }, {});
    localStorage.setItem(KEPT, session);
  } catch {
    // There may be a session already. Without one, the next request says what to do.
  }
}

const entered = enter();

// The printed URL in a tab that shows the page only changes the fragment.
addEventListener("hashchange", () => {
  if (location.hash.startsWith(TOKEN)) location.reload();
});

async function asked(path, body) {
  await entered;
  // Read each time: another tab may have been let in by a dashboard that was started again at the same port.
  return send(path, { "X-Headgate-Session": localStorage.getItem(KEPT) ?? "" }, body);
}

export const get = (path) => asked(path);

export const post = (path, body) => asked(path, body);

export const reportUrl = (id) => `/report?id=${encodeURIComponent(id)}`;
