// Small helpers for the document. Text from people, files and the model becomes text nodes only, never HTML.
export const find = (selector) => document.querySelector(selector);

// element("button", { class: "icon", onclick: f, disabled: true }, "text", child)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children.flat().filter((child) => child != null && child !== false));
  return made;
}

export function icon(name) {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function announce(text) {
  const status = find("#status");
  status.textContent = "";
  setTimeout(() => (status.textContent = text), 50); // so that a screen reader repeats the same words
}

// Shows a line above the images, or hides it if there is no text.
export function showFault(text = "") {
  find("#fault").hidden = !text;
  find("#fault").textContent = text;
}

export const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
