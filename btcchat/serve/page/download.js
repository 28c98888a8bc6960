// Downloads: a picture of images, map and answer; the conversation as JSON; the map by itself.
import { getChangeMap } from "./api.js";
import { element, find, showFault } from "./dom.js";
import { paint } from "./map.js";
import { nameOf } from "./stage.js";
import { current, isComplete, state } from "./state.js";

const SIDE = 512; // height of an image in pixels
const [GAP, LINE] = [24, 30];

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function wrap(pen, text, width) {
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const longer = `${lines.at(-1)} ${word}`.trim();
    if (pen.measureText(longer).width > width && lines.at(-1)) lines.push(word);
    else lines[lines.length - 1] = longer;
  }
  return lines;
}

async function loadImage(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

// Images in a row below their names, then question and answer of the last turn, if there is one.
async function picture() {
  const { frames, map, turns } = current();
  const images = (await Promise.all(frames.map(({ url }) => loadImage(url)))).map((image, at) => [nameOf(at), image]);
  if (state.map.on && map && state.modality === "pair") {
    const canvas = element("canvas");
    paint(canvas, map, state.map);
    images.push(["Change map", images[1][1], canvas]);
  }
  const widths = images.map(([, image]) => Math.round((SIDE * image.width) / image.height));
  const width = Math.max(640, widths.reduce((sum, one) => sum + one + GAP, GAP));
  const canvas = element("canvas", { width, height: 10 });
  const pen = canvas.getContext("2d");
  const fonts = { small: "18px sans-serif", large: "22px sans-serif" };
  const turn = turns.filter(({ answer }) => answer).at(-1);
  pen.font = fonts.large;
  const answer = turn ? wrap(pen, turn.answer, width - 2 * GAP) : [];
  pen.font = fonts.small;
  const question = turn && !turn.isCaption ? wrap(pen, turn.question, width - 2 * GAP) : [];
  canvas.height = SIDE + 2 * GAP + LINE * (1 + answer.length + question.length) + (turn ? GAP : 0);
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, width, canvas.height);
  const write = (text, x, y, font, colour) => Object.assign(pen, { font, fillStyle: colour }).fillText(text, x, y);
  let left = GAP;
  images.forEach(([name, ...layers], at) => {
    write(name, left, GAP + 14, fonts.small, "#56625e");
    for (const layer of layers) pen.drawImage(layer, left, GAP + LINE, widths[at], SIDE);
    left += widths[at] + GAP;
  });
  let top = SIDE + 2 * GAP + LINE + 18;
  for (const line of question) write(line, GAP, (top += LINE) - LINE, fonts.small, "#56625e");
  for (const line of answer) write(line, GAP, (top += LINE) - LINE, fonts.large, "#18211f");
  return new Promise((resolve) => canvas.toBlob(resolve));
}

function record() {
  const { dates, files, frames, map, turns } = current();
  const { caption_question, model, version } = state.info;
  const images = files.map(({ name, size }, at) => {
    const { url, ...facts } = frames[at] ?? {};
    return { name, bytes: size, date: dates[at] || null, ...(state.modality === "video" ? {} : facts) };
  });
  const conversation = turns.map(({ question, answer, state, tokens }) => ({ question, answer, state, tokens: tokens ?? null }));
  const { on, opacity, threshold } = state.map;
  const change_map = map && { low: map.low, high: map.high, shown: on, opacity, threshold: threshold ?? map.low };
  const about = { model, version, caption_question, written: new Date().toISOString() };
  return { ...about, modality: state.modality, images, settings: state.settings, conversation, change_map };
}

const actions = {
  picture: async () => save(await picture(), "btcchat.png"),
  json: () => save(new Blob([JSON.stringify(record(), null, 2)], { type: "application/json" }), "btcchat.json"),
  map: async () => save((current().map ?? (await getChangeMap(current().files, state.settings))).blob, "change_map.png"),
  geotiff: async () => save((await getChangeMap(current().files, state.settings, "geotiff")).blob, "change_map.tif"),
};

const menu = find("#download-menu");
for (const [name, act] of Object.entries(actions)) {
  find(`#download-${name}`).addEventListener("click", async () => {
    menu.hidePopover();
    await Promise.resolve(act()).catch((error) => showFault(error.message));
  });
}
menu.addEventListener("beforetoggle", () => {
  const hasFrames = isComplete() && current().frames.length > 0;
  find("#download-picture").disabled = !hasFrames || state.modality === "video";
  find("#download-json").disabled = !hasFrames;
  for (const name of ["map", "geotiff"]) find(`#download-${name}`).disabled = !hasFrames || state.modality !== "pair";
});
