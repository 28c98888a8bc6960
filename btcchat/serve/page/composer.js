// The question box, its buttons, and suggested questions.
import { caption, stop, submit } from "./conversation.js";
import { element, find, icon } from "./dom.js";
import { current, isComplete, MODALITIES, on, state } from "./state.js";

const question = find("#question");

function grow() {
  question.style.height = "auto";
  question.style.height = `${question.scrollHeight + 2}px`;
}

function send(event) {
  event?.preventDefault();
  if (state.busy || !isReady() || !question.value.trim()) return;
  submit(question.value);
  question.value = "";
  grow();
  update();
}

const isReady = () => Boolean(state.info && isComplete() && current().frames.length);

function update() {
  find("#chat").classList.toggle("waiting", !isReady());
  question.disabled = !isReady();
  question.placeholder = isReady() ? "Ask about the images" : "Add images to ask about them";
  const [send, stop] = [find("#send"), find("#stop")];
  const focused = document.activeElement;
  stop.hidden = !state.busy;
  send.hidden = state.busy;
  if (focused === send && state.busy) stop.focus();
  if (focused === stop && !state.busy) question.focus();
  send.disabled = !isReady() || !question.value.trim();
}

function suggest() {
  const { turns } = current();
  const box = find("#suggestions");
  box.hidden = !isReady() || state.busy || turns.length > 1;
  if (box.hidden) return;
  const button = (name, ask, attributes, ...more) => {
    const onclick = ({ detail }) => {
      ask();
      if (detail === 0) question.focus(); // pressed by keyboard: the button is gone now
    };
    return element("button", { type: "button", onclick, ...attributes }, ...more, name);
  };
  const buttons = MODALITIES[state.modality].questions.map((text) => button(text, () => submit(text), { class: "suggestion" }));
  if (state.modality === "pair" && !turns.some((turn) => turn.isCaption)) {
    buttons.unshift(button("Describe the change", caption, { class: "primary", id: "describe" }, icon("spark")));
  }
  box.replaceChildren(...buttons);
}

find("#composer").addEventListener("submit", send);
find("#stop").addEventListener("click", stop);
question.addEventListener("input", () => {
  grow();
  update();
});
question.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) send(event);
  if (event.key === "Escape" && state.busy) stop();
});
on("info modality files frames turns busy", () => {
  update();
  suggest();
});
