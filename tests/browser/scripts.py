"""Scripts that tests run in a page."""

ATTACK = """
async (origin) => {
  const seen = { read: "", framed: "" };
  try {
    seen.read = (await (await fetch(`${origin}/api/now`, { credentials: "include" })).text()) || "failed";
  } catch {
    seen.read = "failed";
  }
  const body = JSON.stringify({ id: "checkout-42", signal: "abort" });
  for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded"]) {
    for (const mode of ["cors", "no-cors"]) {
      try {
        const headers = { "Content-Type": type };
        await fetch(`${origin}/api/signal`, { method: "POST", mode, credentials: "include", body, headers });
      } catch {
        // Refused by the browser already.
      }
    }
  }
  const sink = document.createElement("iframe");
  sink.name = "sink";
  document.body.append(sink);
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: `${origin}/api/signal`, target: "sink", enctype: "text/plain" });
  const field = document.createElement("input");
  Object.assign(field, { name: body.slice(0, -1) + ',"x":"', value: '"}' });
  form.append(field);
  document.body.append(form);
  form.submit();
  const frame = document.createElement("iframe");
  frame.src = `${origin}/`;
  document.body.append(frame);
  await new Promise((done) => setTimeout(done, 700));
  try {
    seen.framed = frame.contentDocument?.querySelector(".rollout") ? "the page" : "nothing";
  } catch {
    seen.framed = "nothing";
  }
  return seen;
}
"""
"""What a hostile page can try in the browser of somebody who has a dashboard open."""

CONTRAST = """
() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const linear = (part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const [x, y, z] = [r, g, b].map((part) => linear(part / 255));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.checkVisibility() || node.matches(":disabled, option, script, noscript")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const what = `${node.tagName}.${node.className} ${node.textContent.trim().slice(0, 30)}`;
    if (ratio < 4.5) faint.push(`${what}: ${ratio.toFixed(2)}`);
  }
  return faint;
}
"""
"""Texts whose contrast is below 4.5 to 1 (https://www.w3.org/TR/WCAG22/#contrast-minimum)."""

INJECT = """
() => {
  const owned = "document.title = 'owned'";
  const attempts = [
    () => { const made = document.createElement("script"); made.text = owned; document.body.append(made); },
    () => { const made = document.createElement("script"); made.append(owned); document.body.append(made); },
    () => { const made = document.createElement("p"); made.setAttribute("onclick", owned); made.click(); },
    () => { document.querySelector("main").innerHTML = `<img src="data:," onerror="${owned}">`; },
    () => { setTimeout(owned); },
  ];
  for (const attempt of attempts) {
    try {
      attempt();
    } catch {
      // Refused at once.
    }
  }
}
"""
"""What a script that got into the page would try first."""

SHOWN_AS = """
(state) => {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""
"""Makes the page believe that it is hidden or visible."""
