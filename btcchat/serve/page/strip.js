// Thumbnails in order of time, with names, dates and actions. In a series, a click chooses the date on the stage.
import { element, find, icon } from "./dom.js";
import { isLoading, setFiles, swap } from "./files.js";
import { chooser } from "./intake.js";
import { nameOf } from "./stage.js";
import { changed, current, isComplete, MODALITIES, on, state } from "./state.js";

// The strip is drawn again after each change; the focus returns to the element with this data-key, wherever it is now.
let focusKey = null;

function button(name, label, at, act, disabled = false) {
  const attributes = { class: "icon", "aria-label": label, title: label, disabled, "data-key": `${name} ${at}`, onclick: act };
  return element("button", { type: "button", ...attributes }, icon(name));
}

function dateField(at) {
  const { dates } = current();
  const oninput = ({ target }) => (dates[at] = target.value.trim());
  const onchange = () => changed("dates");
  const attributes = { value: dates[at] ?? "", placeholder: "date", maxlength: 20, oninput, onchange };
  return element("input", { class: "date", "aria-label": `Date of ${current().files[at].name}`, ...attributes });
}

function move(from, to) {
  const { files, dates } = current();
  focusKey = `${to < from ? "left" : "right"} ${to}`;
  const order = files.map((_, at) => at);
  order.splice(to, 0, ...order.splice(from, 1));
  setFiles(order.map((at) => files[at]), order.map((at) => dates[at]));
}

function remove(gone) {
  const { files, dates } = current();
  focusKey = `thumb ${Math.max(0, gone - 1)}`;
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
  };
  const name = nameOf(at);
  return element("li", { class: at === session.shown ? "chosen" : at === session.shown - 1 ? "compared" : "" },
    element("button", { type: "button", class: "thumb", "aria-pressed": String(at === session.shown), onclick: choose,
      "aria-label": labelOf(at), "data-key": `thumb ${at}` },
      element("img", { src: frame.url, alt: "" })),
    dateField(at),
    element("span", { class: "row" },
      button("left", `Move ${name} earlier`, at, () => move(at, at - 1), at === 0),
      button("cross", `Remove ${name}`, at, () => remove(at)),
      button("right", `Move ${name} later`, at, () => move(at, at + 1), at === length - 1)));
}

const videoItem = (frame, at) =>
  element("li", {}, element("img", { class: "thumb", src: frame.url, alt: `Frame ${at + 1} of those the model sees` }));

let drawn = null; // the modality whose images the strip shows
function draw() {
  const strip = find("#strip");
  const { frames, files } = current();
  const kind = state.modality;
  if (isLoading() && isComplete() && drawn === kind) return; // as on the stage
  strip.hidden = !frames.length || !isComplete();
  drawn = strip.hidden ? null : kind;
  if (strip.hidden) return;
  const item = { series: seriesItem, video: videoItem }[kind] ?? pairItem;
  const isVideo = kind === "video"; // nothing in its strip takes the focus, and the arrow keys must scroll it
  const attributes = { "aria-label": isVideo ? "Frames the model sees" : "Dates", tabindex: isVideo ? 0 : null };
  const list = element("ol", { class: `strip ${kind}`, ...attributes }, frames.map(item));
  const extras = [];
  if (kind === "pair") list.children[0].after(element("li", { class: "between" }, button("swap", "Swap before and after", 0, swap)));
  if (kind === "series") extras.push(element("label", { class: "button" }, chooser(null, "Add dates to the series", 9), "Add dates"));
  if (isVideo) {
    const about = `${files[0].name}: ${frames.length === 1 ? "the frame" : `the ${frames.length} frames`} that the model sees`;
    extras.push(element("p", { class: "row soft" }, about, replace(0)));
  }
  const key = focusKey ?? (strip.contains(document.activeElement) ? document.activeElement.dataset.key : null);
  strip.replaceChildren(list, ...extras);
  focusKey = null;
  if (key) (find(`#strip [data-key="${key}"]:enabled`) ?? find("#strip :is(button, input):enabled"))?.focus();
}

on("modality files frames", draw);
on("dates", () => document.querySelectorAll("button.thumb").forEach((thumb, at) => thumb.setAttribute("aria-label", labelOf(at))));
