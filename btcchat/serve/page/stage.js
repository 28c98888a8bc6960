// The images in large: zones to fill, then a swipe of two dates, one image, or a clip.
import { element, find } from "./dom.js";
import { isLoading } from "./files.js";
import { examples, zones } from "./intake.js";
import { changed, current, isComplete, on, state } from "./state.js";

const FORMATS = {
  video: "The model sees a few frames of the clip.",
  other: "PNG, JPEG, WebP, GeoTIFF, JPEG 2000 and more. Nothing leaves this server.",
};

export const nameOf = (at) => {
  const { dates, files } = current();
  if (state.modality === "pair") return [at ? "After" : "Before", dates[at]].filter(Boolean).join(" ");
  return dates[at] || files[at]?.name || `Image ${at + 1}`;
};

const figure = (frame, name) =>
  element("figure", {}, element("img", { src: frame.url, alt: name, draggable: "false" }), element("figcaption", {}, name));

// frames: two dates. The box has the proportions of the first.
function swipe(frames, names) {
  const box = element("image-swipe", { label: `Swipe between ${names.join(" and ")}` }, frames.map((f, at) => figure(f, names[at])));
  box.append(element("canvas", { id: "map-picture", hidden: true, role: "img", "aria-label": "Change map over the images" }));
  return box;
}

let clip = null; // the object URL of the clip being played
function video(file) {
  if (clip) URL.revokeObjectURL(clip);
  clip = URL.createObjectURL(file);
  return element("video", { src: clip, controls: true, muted: true, playsinline: true, "aria-label": file.name });
}

function picture() {
  const { files, frames, shown } = current();
  if (state.modality === "video") return video(files[0]);
  if (state.modality === "image" || shown === 0) return figure(frames[0], nameOf(0));
  return swipe([frames[shown - 1], frames[shown]], [nameOf(shown - 1), nameOf(shown)]);
}

let drawn = ""; // what the stage shows; "" for empty zones
function draw() {
  const { frames, files, shown, dates } = current();
  const stage = find("#stage");
  stage.setAttribute("aria-busy", isLoading());
  // Other images of the same kind are loading: the old ones stay until the new ones are there.
  if (isLoading() && isComplete() && drawn.startsWith(`["${state.modality}"`)) return;
  const isReady = isComplete() && frames.length > 0 && !isLoading();
  const urls = frames.map(({ url }) => url.length + url.slice(-80));
  const now = isReady ? JSON.stringify([state.modality, urls, shown, dates, files[0].name]) : "";
  if (isReady && now === drawn) return;
  drawn = now;
  const hadFocus = stage.contains(document.activeElement);
  stage.classList.toggle("ready", isReady);
  if (isReady) {
    const { width, height } = frames[shown] ?? frames[0];
    stage.style.setProperty("--ratio", width / height);
    stage.replaceChildren(picture());
    if (hadFocus) (stage.querySelector("input") ?? find("#question")).focus();
  } else {
    const formats = element("p", { class: "formats soft" }, FORMATS[state.modality] ?? FORMATS.other);
    const isEmpty = !files.some(Boolean);
    stage.replaceChildren(zones(), ...(isEmpty ? [element("div", { class: "below" }, examples(), formats)] : []));
    if (hadFocus) stage.querySelector("input")?.focus();
  }
  changed("stage");
}

on("modality files frames dates", draw);
