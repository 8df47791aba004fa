// Elements of the page. Every text goes through textContent: records hold what others wrote.

export const byId = (id) => document.getElementById(id);

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// Changes nothing that is there already, so that a screen reader, a selection and the focus stay where they are.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

// Makes the children of `parent` the elements of `items`, in their order. Elements are kept by key and updated.
export function keyed(parent, items, keyOf, make, update) {
  const wanted = new Set(items.map(keyOf));
  const known = new Map();
  for (const child of [...parent.children]) {
    if (wanted.has(child.dataset.key)) known.set(child.dataset.key, child);
    else remove(parent, child);
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = known.get(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    update(child, item);
    if (child === place) place = place.nextElementSibling;
    else move(parent, child, place);
  }
}

function remove(parent, child) {
  const hadFocus = child.contains(document.activeElement);
  child.remove();
  // The keyboard goes on where it was: at the next button of the group, or else at the heading.
  if (hadFocus) (parent.querySelector(":scope > button") ?? parent.closest("section")?.querySelector("h2"))?.focus();
}

function move(parent, child, place) {
  const focused = child.contains(document.activeElement) ? document.activeElement : null;
  parent.insertBefore(child, place);
  focused?.focus({ preventScroll: true });
}
