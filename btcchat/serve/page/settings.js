// The settings dialog, and the API key where the server asks for one.
import { getKey, setKey } from "./api.js";
import { find } from "./dom.js";
import { changed, on, state } from "./state.js";

const dialog = find("#settings");
const form = dialog.querySelector("form");
const READING = ["stretch", "low", "high", "bands"];

const defaults = () => {
  const { max_tokens = 128, temperature = 0, stretch = "shared", bands } = state.info?.defaults ?? {};
  const isNamed = ["shared", "per-date", "none"].includes(stretch);
  const [low, high] = isNamed ? ["", ""] : stretch.split(",");
  return { max_tokens, temperature, stretch: isNamed ? stretch : "values", low, high, bands: bands ?? "" };
};

function show() {
  for (const [name, value] of Object.entries(state.settings)) form[name].value = value;
  form.key.value = getKey();
  form.max_tokens.max = state.info?.limits?.new_tokens ?? "";
  update();
}

function update() {
  const temperature = Number(form.temperature.value);
  find("#temperature-value").textContent = temperature ? `${temperature}: answers vary` : "0: always the likeliest answer";
  form.temperature.setAttribute("aria-valuetext", find("#temperature-value").textContent);
  find("#values").hidden = form.stretch.value !== "values";
  for (const name of ["low", "high"]) form[name].required = form.stretch.value === "values";
}

function apply() {
  const before = READING.map((name) => state.settings[name]).join();
  const texts = Object.fromEntries(READING.map((name) => [name, form[name].value.replaceAll(" ", "")]));
  const numbers = { max_tokens: Number(form.max_tokens.value), temperature: Number(form.temperature.value) };
  state.settings = { ...texts, ...numbers };
  const isNewKey = form.key.value !== getKey();
  setKey(form.key.value);
  changed("settings");
  if (isNewKey) document.dispatchEvent(new Event("key-given"));
  if (READING.map((name) => state.settings[name]).join() !== before) changed("reading");
}

export function open(field) {
  if (!dialog.open) {
    show();
    dialog.showModal();
  }
  form[field]?.focus();
}

find("#open-settings").addEventListener("click", () => open());
find("#reset-settings").addEventListener("click", () => {
  state.settings = { ...state.settings, ...defaults() };
  show();
});
form.addEventListener("input", update);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  apply();
  dialog.close();
});
dialog.addEventListener("click", ({ target }) => target === dialog && form.requestSubmit()); // on the backdrop
document.addEventListener("key-needed", () => {
  find("#key-note").textContent = "This server asks for a key. It is kept until this tab is closed.";
  open("key");
});
on("info", () => (state.settings = { ...defaults(), ...state.settings }));
