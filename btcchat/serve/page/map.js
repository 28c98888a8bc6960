// The change map over the images: its opacity, and the threshold from which it is drawn.
import { getChangeMap } from "./api.js";
import { announce, element, find, percent, showFault } from "./dom.js";
import { changed, current, isComplete, on, state } from "./state.js";

const RED = [255, 32, 32]; // as `btcchat caption --change-map` draws it
const round = (value) => value.toFixed(2);

const LONGEST = 1024; // pixels of a side, as of the images themselves; a larger map would lag behind the sliders

// The map as grey levels: 0 to 255 for 0 to 1, a byte per pixel.
async function decode(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(scale * side)));
  const pen = element("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  pen.drawImage(bitmap, 0, 0, width, height);
  return { width, height, values: pen.getImageData(0, 0, width, height).data.filter((_, at) => at % 4 === 0) };
}

async function load() {
  const session = current();
  find("#map").setAttribute("aria-busy", "true");
  try {
    const { blob, low, high } = await getChangeMap(session.files, state.settings);
    session.map = { blob, low, high, ...(await decode(blob)) };
    state.map.threshold = null;
    announce("Change map shown");
  } catch (error) {
    showFault(error.message);
    state.map.on = false;
  } finally {
    find("#map").removeAttribute("aria-busy");
    changed("map");
  }
}

// Draws the map where it reaches the threshold, stronger where it is higher. Returns the share of pixels drawn.
export function paint(canvas, { width, height, values, low, high }, { opacity, threshold }) {
  const alphas = new Uint8ClampedArray(256);
  for (let level = 0; level < 256; level++) {
    const strength = high > low ? (level / 255 - low) / (high - low) : 0;
    if (level >= levelOf(threshold ?? low)) alphas[level] = Math.round(255 * opacity * Math.min(1, Math.max(0, strength)));
  }
  Object.assign(canvas, { width, height });
  const picture = new ImageData(width, height);
  let above = 0;
  values.forEach((level, at) => {
    picture.data.set(RED, 4 * at);
    picture.data[4 * at + 3] = alphas[level];
    above += level >= levelOf(threshold ?? low);
  });
  canvas.getContext("2d").putImageData(picture, 0, 0);
  return above / values.length;
}
const levelOf = (value) => Math.round(255 * value);

function draw() {
  const isPair = state.modality === "pair" && isComplete() && current().frames.length > 1;
  const { map } = current();
  const canvas = find("#map-picture");
  find("#map").hidden = !isPair;
  find("#map-on").checked = state.map.on;
  const isShown = Boolean(isPair && state.map.on && map && canvas);
  find("#map-tools").hidden = !isShown;
  if (canvas) canvas.hidden = !isShown;
  if (!isShown) return;
  const { low, high } = map;
  const [opacity, threshold] = ["#map-opacity", "#map-threshold"].map(find);
  Object.assign(threshold, { min: low, max: high, step: (high - low) / 100 || 0.01 });
  threshold.value = state.map.threshold ?? low;
  opacity.value = 100 * state.map.opacity;
  const share = paint(canvas, map, state.map);
  const at = round(Number(threshold.value));
  const outputs = [percent(state.map.opacity), at];
  [opacity, threshold].forEach((slider, number) => {
    slider.nextElementSibling.textContent = outputs[number];
    slider.setAttribute("aria-valuetext", outputs[number]);
  });
  const [first, last] = find("#map-scale").querySelectorAll("span");
  [first.textContent, last.textContent] = [round(low), round(high)];
  const isDefault = (state.map.threshold ?? low) <= low;
  find("#map-share").textContent = isDefault
    ? "Raise the threshold to see only the strongest changes."
    : `${percent(share)} of the image is at ${at} or above.`;
}

find("#map-on").addEventListener("change", ({ target }) => {
  state.map.on = target.checked;
  changed("map");
});
find("#map-opacity").addEventListener("input", ({ target }) => {
  state.map.opacity = target.value / 100;
  draw();
});
find("#map-threshold").addEventListener("input", ({ target }) => {
  state.map.threshold = Number(target.value);
  draw();
});

let fetching = null; // the frames whose map is being fetched
on("stage map", () => {
  const { frames, map } = current();
  const isNeeded = state.map.on && state.modality === "pair" && isComplete() && frames.length > 1 && !map;
  if (isNeeded && fetching !== frames) {
    fetching = frames;
    load().finally(() => (fetching = null));
  }
  draw();
});
