// Ways to add files: choose them, drop them anywhere on the page, paste them, or try an example.
import { element, find, icon, showFault } from "./dom.js";
import { addFiles, isLoading, setFiles } from "./files.js";
import { current, MODALITIES, state } from "./state.js";

const EXAMPLES = {
  pair: [["Houses and trees", ["/examples/before.png", "/examples/after.png"]]],
  image: [["A scene", ["/examples/after.png"]]],
  series: [["Three dates", ["/page/examples/2016.webp", "/page/examples/2019.webp", "/page/examples/2022.webp"]]],
  video: [["A short clip", ["/page/examples/clip.webm"]]],
};

export function chooser(slot, label, most) {
  const accept = state.modality === "video" ? "video/*,.gif" : "image/*,.tif,.tiff,.jp2,.j2k";
  const onchange = ({ target }) => addFiles(target.files, slot);
  const attributes = { accept, multiple: most > 1, onchange, "aria-label": label, "data-key": `choose ${slot}` };
  return element("input", { type: "file", class: "unseen", ...attributes });
}

export function zones() {
  const { zones: names, most } = MODALITIES[state.modality];
  const { files, frames } = current();
  return element("div", { class: `zones of-${names.length}` }, names.map(([name, about], slot) => {
    const file = files[slot];
    const isShown = file && frames.length && files.filter(Boolean).length === 1;
    const hint = file ? (isLoading() ? "Reading the image …" : file.name) : "Drop, paste or choose";
    return element("label", { class: `zone${isShown ? " filled" : ""}`, "data-slot": slot },
      chooser(slot, `${name}: choose ${most > 1 ? "images" : "a file"}`, most),
      isShown ? element("img", { src: frames[0].url, alt: `${name}: ${file.name}` }) : icon("image"),
      element("strong", {}, name),
      element("span", { class: "soft" }, file ? "" : about),
      element("span", { class: "hint" }, hint));
  }));
}

export function examples() {
  const buttons = EXAMPLES[state.modality].map(([name, paths]) =>
    element("button", { type: "button", class: "example", onclick: () => load(paths) },
      paths.filter((path) => !path.endsWith(".webm")).map((src) => element("img", { src, alt: "" })),
      element("span", {}, element("small", {}, "Try an example"), name)));
  return element("div", { class: "examples" }, buttons);
}

async function load(paths) {
  try {
    const files = await Promise.all(paths.map(async (path) => {
      const answer = await fetch(path);
      if (!answer.ok) throw new Error(`The example ${path} is not on this server.`);
      return new File([await answer.blob()], path.split("/").pop());
    }));
    setFiles(files, files.map((file) => /^\d{4}/.exec(file.name)?.[0] ?? ""));
  } catch (error) {
    showFault(error.message);
  }
}

// A single file dropped on the left half of a loaded pair becomes its earlier image, on the right half its later one.
function slotAt(event) {
  const zone = event.target.closest?.("[data-slot]");
  if (zone) return Number(zone.dataset.slot);
  const swipe = event.target.closest?.("image-swipe");
  if (!swipe || state.modality !== "pair") return undefined;
  const { left, width } = swipe.getBoundingClientRect();
  return Number(event.clientX > left + width / 2);
}

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
const dragging = (is) => document.body.classList.toggle("dragging", is);

addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  dragging(true);
});
addEventListener("dragleave", (event) => event.relatedTarget ?? dragging(false));
addEventListener("drop", (event) => {
  dragging(false);
  if (!hasFiles(event)) return;
  event.preventDefault();
  addFiles(event.dataTransfer.files, slotAt(event));
});
addEventListener("paste", (event) => {
  if (!event.clipboardData?.files.length || find("dialog[open]")) return;
  event.preventDefault();
  addFiles(event.clipboardData.files);
});
