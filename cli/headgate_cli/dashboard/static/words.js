// Numbers and times as people read them.

export const number = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 2 });

export const percent = (value) => `${value.toLocaleString("en-US", { maximumFractionDigits: 2 })} %`;

export function duration(seconds) {
  const left = Math.max(0, Math.round(seconds));
  if (left < 60) return `${left} s`;
  if (left < 3600) return `${Math.floor(left / 60)} min ${left % 60} s`;
  if (left < 86400) return `${Math.floor(left / 3600)} h ${Math.floor((left % 3600) / 60)} min`;
  return `${Math.floor(left / 86400)} d ${Math.floor((left % 86400) / 3600)} h`;
}

export const secondsBetween = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

const pad = (value) => String(value).padStart(2, "0");

export const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

// In the time zone of the person who reads it.
export function localTime(at) {
  const then = new Date(at);
  return `${then.getFullYear()}-${pad(then.getMonth() + 1)}-${pad(then.getDate())} ` +
    `${pad(then.getHours())}:${pad(then.getMinutes())}:${pad(then.getSeconds())}`;
}

export const clock = (at) => localTime(at).slice(11);

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

export const failed = (counts) => `${number(counts.failures)} of ${number(counts.requests)}`;

// Share of the way to the limit. Evidence multiplies, so the way is logarithmic.
export function evidenceShare(comparison) {
  if (comparison.value === undefined) return 0;
  return Math.min(1, Math.max(0, Math.log(Math.max(1, comparison.value)) / Math.log(comparison.limit)));
}

export function guardText(comparison) {
  const does = { pause: " (pauses)", report: " (only reported)" }[comparison.action] ?? "";
  return `${comparison.label}${does}`;
}

export function evidenceText(comparison) {
  if (comparison.value === undefined) return "none yet";
  return `${comparison.value.toLocaleString("en-US", { maximumSignificantDigits: 3 })} of ` +
    comparison.limit.toLocaleString("en-US", { maximumSignificantDigits: 3 });
}

export const STATUS = {
  waiting: "waiting",
  accepted: "about to begin",
  running: "running",
  paused: "paused",
  succeeded: "promoted",
  "rolled-back": "rolled back",
  refused: "refused",
  stopped: "stopped",
};
