// Starts the page: restores the last session, draws it, and asks the server about its model and limits.
import { getInfo } from "./api.js";
import "./composer.js";
import "./download.js";
import "./map.js";
import "./settings.js";
import "./strip.js";
import "./turns.js";
import { announce, find, showFault } from "./dom.js";
import { loadFrames, setFiles } from "./files.js";
import { restore, watch } from "./store.js";
import { changed, MODALITIES, on, state } from "./state.js";

const everything = ["info", "modality", "files", "frames", "turns", "busy", "settings"];

function describe() {
  find(`[name=modality][value=${state.modality}]`).checked = true;
  find("#about").textContent = MODALITIES[state.modality].about;
}

async function connect() {
  try {
    state.info = await getInfo();
  } catch (error) {
    showFault(error.status === 503 ? "The model is loading …" : error.message);
    if (error.status !== 401) setTimeout(connect, 1000 * (error.wait ?? 2)); // otherwise the settings ask for the key
    return;
  }
  showFault();
  find("#model").textContent = state.info.model;
  find("#model").title = `btcchat ${state.info.version}`;
  find("#model").hidden = false;
  find("#demo").hidden = !state.info.demo;
  changed("info", "settings");
  loadFrames();
}

find("#modality").addEventListener("change", ({ target }) => {
  state.modality = target.value;
  changed("modality");
});
find("#clear").addEventListener("click", () => {
  setFiles([], []);
  announce("Images and conversation were removed");
  find("#stage input")?.focus();
});
document.addEventListener("key-given", connect);
on("modality", describe);

await restore();
watch();
changed(...everything);
describe();
connect();
