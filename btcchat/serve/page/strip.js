// The images in small, in order of time: names, dates, and what can be done to each. Of a series it chooses the date.
import { element, find, icon } from "./dom.js";
import { setFiles, swap } from "./files.js";
import { chooser } from "./intake.js";
import { nameOf } from "./stage.js";
import { changed, current, isComplete, MODALITIES, on, state } from "./state.js";

const button = (name, label, onclick, disabled = false) =>
  element("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, disabled }, icon(name));

function dateField(at) {
  const { dates } = current();
  const oninput = ({ target }) => (dates[at] = target.value.trim());
  const onchange = () => changed("dates");
  const attributes = { value: dates[at] ?? "", placeholder: "date", maxlength: 20, oninput, onchange };
  return element("input", { class: "date", "aria-label": `Date of ${current().files[at].name}`, ...attributes });
}

function moved(from, to) {
  const { files, dates } = current();
  const order = files.map((_, at) => at);
  order.splice(to, 0, ...order.splice(from, 1));
  setFiles(order.map((at) => files[at]), order.map((at) => dates[at]));
}

function without(gone) {
  const { files, dates } = current();
  setFiles(files.filter((_, at) => at !== gone), dates.filter((_, at) => at !== gone));
}

const size = ({ width, height, full_size }) => (full_size ?? [width, height]).join(" × ");
function details(frame) {
  const bands = frame.bands && `bands ${frame.bands.join(", ")}`;
  const range = frame.range && `${frame.range.map((value) => Number(value.toPrecision(4))).join(" to ")}`;
  return [size(frame), bands, range].filter(Boolean).join(" · ");
}

function replace(at) {
  const label = `Replace ${MODALITIES[state.modality].zones[at][0].toLowerCase()}`;
  return element("label", { class: "button icon", title: label }, chooser(at, label, 1), icon("replace"));
}

function pairItem(frame, at) {
  const { files } = current();
  return element("li", { class: "slot" },
    element("img", { src: frame.url, alt: "" }),
    element("span", { class: "names" }, element("strong", {}, files[at].name), element("small", { class: "soft" }, details(frame))),
    state.modality === "pair" && dateField(at), replace(at));
}

const labelOf = (at) => (at ? `Compare ${nameOf(at)} with ${nameOf(at - 1)}` : `Show ${nameOf(at)}`);

function seriesItem(frame, at, { length }) {
  const session = current();
  const choose = () => {
    session.shown = at;
    changed("frames");
    find(`#strip li:nth-child(${at + 1}) .thumb`)?.focus();
  };
  const name = nameOf(at);
  return element("li", { class: at === session.shown ? "chosen" : at === session.shown - 1 ? "compared" : "" },
    element("button", { type: "button", class: "thumb", "aria-pressed": String(at === session.shown), onclick: choose,
      "aria-label": labelOf(at) },
      element("img", { src: frame.url, alt: "" })),
    dateField(at),
    element("span", { class: "row" },
      button("left", `Move ${name} earlier`, () => moved(at, at - 1), at === 0),
      button("cross", `Remove ${name}`, () => without(at)),
      button("right", `Move ${name} later`, () => moved(at, at + 1), at === length - 1)));
}

const videoItem = (frame, at) =>
  element("li", {}, element("img", { class: "thumb", src: frame.url, alt: `Frame ${at + 1} that the model sees` }));

function draw() {
  const strip = find("#strip");
  const { frames, files } = current();
  strip.hidden = !frames.length || !isComplete();
  if (strip.hidden) return;
  const kind = state.modality;
  const item = { series: seriesItem, video: videoItem }[kind] ?? pairItem;
  const isVideo = kind === "video"; // nothing in its strip takes the focus, and the arrow keys must scroll it
  const attributes = { "aria-label": isVideo ? "Frames the model sees" : "Dates", tabindex: isVideo ? 0 : null };
  const list = element("ol", { class: `strip ${kind}`, ...attributes }, frames.map(item));
  const extras = [];
  if (kind === "pair") list.children[0].after(element("li", { class: "between" }, button("swap", "Swap before and after", swap)));
  if (kind === "series") extras.push(element("label", { class: "button" }, chooser(null, "Add dates to the series", 9), "Add dates"));
  if (isVideo) {
    const about = `${files[0].name}: the ${frames.length} frames that the model sees`;
    extras.push(element("p", { class: "row soft" }, about, replace(0)));
  }
  strip.replaceChildren(list, ...extras);
}

on("modality files frames", draw);
on("dates", () => document.querySelectorAll("button.thumb").forEach((thumb, at) => thumb.setAttribute("aria-label", labelOf(at))));
