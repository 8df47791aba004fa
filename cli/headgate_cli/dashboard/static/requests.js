// Requests to the dashboard itself. There are no others.

const csrf = document.querySelector('meta[name="headgate-csrf"]').content;

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

export const get = (path) => answered(fetch(path, { credentials: "same-origin" }));

export const post = (path, body) =>
  answered(
    fetch(path, {
      method: "POST",
      credentials: "same-origin",
      headers: { "Content-Type": "application/json", "X-Headgate-Csrf": csrf },
      body: JSON.stringify(body),
    }),
  );

export const reportUrl = (id) => `/report?id=${encodeURIComponent(id)}`;
