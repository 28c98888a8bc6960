// The settings dialog, and the API key if the server asks for one.
import { getKey, setKey } from "./api.js";
import { find } from "./dom.js";
import { changed, on, state } from "./state.js";

const dialog = find("#settings");
const form = dialog.querySelector("form");

const defaults = () => {
  const { max_tokens = 128, temperature = 0, stretch = "shared", bands } = state.info?.defaults ?? {};
  const isNamed = ["shared", "per-date", "none"].includes(stretch);
  const [low, high] = isNamed ? ["", ""] : stretch.split(",");
  return { max_tokens, temperature, stretch: isNamed ? stretch : "values", low, high, bands: bands ?? "" };
};

function show(settings) {
  for (const [name, value] of Object.entries(settings)) form[name].value = value;
  form.max_tokens.max = state.info?.limits?.new_tokens ?? "";
  update();
}

function update() {
  const temperature = Number(form.temperature.value);
  find("#temperature-value").textContent = temperature ? `${temperature}: answers vary` : "0: the most likely answer";
  form.temperature.setAttribute("aria-valuetext", find("#temperature-value").textContent);
  find("#values").hidden = form.stretch.value !== "values";
  for (const name of ["low", "high"]) form[name].required = form.stretch.value === "values";
}

const reading = ({ stretch, low, high, bands }) => [stretch, low, high, bands].join();

function apply() {
  const before = reading(state.settings);
  const isNewKey = form.key.value !== getKey();
  setKey(form.key.value);
  if (state.info) {
    const texts = ["stretch", "low", "high", "bands"].map((name) => [name, form[name].value.replaceAll(" ", "")]);
    const numbers = ["max_tokens", "temperature"].map((name) => [name, Number(form[name].value)]);
    state.settings = state.chosen = Object.fromEntries([...texts, ...numbers]);
    changed("settings");
  }
  if (isNewKey) document.dispatchEvent(new Event("key-given"));
  if (reading(state.settings) !== before) changed("reading");
}

export function open(field) {
  if (!dialog.open) {
    form.key.value = getKey();
    show(state.settings);
    dialog.showModal();
  }
  form[field]?.focus();
}

find("#open-settings").addEventListener("click", () => open());
find("#reset-settings").addEventListener("click", () => show(defaults()));
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
state.settings = defaults();
on("info", () => (state.settings = { ...defaults(), ...state.chosen }));
