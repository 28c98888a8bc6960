// Shows the conversation: the caption, questions, answers, and errors.
import { element, find, icon } from "./dom.js";
import { retry } from "./conversation.js";
import { current, isComplete, MODALITIES, on, state } from "./state.js";

const NOTES = {
  stopped: "Stopped",
  length: "Cut off at the maximum length; raise it in Settings",
  seconds: "Cut off at the server's time limit",
};

function copy(turn) {
  const onclick = async ({ target }) => {
    await navigator.clipboard.writeText(turn.answer);
    target.textContent = "Copied";
  };
  return navigator.clipboard && element("button", { type: "button", class: "quiet", onclick }, "Copy");
}

function foot(turn) {
  if (turn.state === "writing") return null;
  const tokens = turn.tokens && `${turn.tokens} ${turn.tokens === 1 ? "token" : "tokens"}`;
  const facts = [NOTES[turn.state], tokens, turn.seconds && `${turn.seconds.toFixed(1)} s`].filter(Boolean);
  return element("p", { class: "foot soft" }, facts.join(" · "), turn.answer && copy(turn));
}

function fault(turn) {
  return element("p", { class: "fault", role: "alert" }, turn.note,
    element("button", { type: "button", class: "quiet", onclick: () => retry(turn) }, "Try again"));
}

function article(turn) {
  const answer = element("div", { class: "answer" }, document.createTextNode(turn.answer));
  if (turn.state === "writing") answer.append(element("span", { class: "cursor", "aria-hidden": "true" }));
  return element("article", { class: turn.isCaption ? "caption" : "", "aria-busy": String(turn.state === "writing") },
    turn.isCaption ? element("h2", {}, icon("spark"), "What changed") : element("p", { class: "question" }, turn.question),
    (turn.answer || turn.state === "writing") && answer,
    turn.state === "failed" ? fault(turn) : foot(turn));
}

function invitation() {
  const [title, text] = isComplete()
    ? ["Ask about the images", "The answer appears here as the model writes it. Later questions can refer to earlier ones."]
    : ["Nothing to ask about yet", `Add ${MODALITIES[state.modality].about.toLowerCase()}, or try the example.`];
  return element("div", { class: "invitation" }, icon("mark"), element("h2", {}, title), element("p", { class: "soft" }, text));
}

function draw() {
  const { turns } = current();
  const box = find("#turns");
  box.replaceChildren(...(turns.length ? turns.map(article) : [invitation()]));
  if (turns.length) box.lastElementChild.scrollIntoView({ block: "nearest" });
}

// Another piece of the last answer; the rest of the page stays as it is.
on("piece", () => {
  const answer = find("#turns article:last-child .answer");
  answer?.firstChild?.replaceWith(current().turns.at(-1).answer);
  answer?.scrollIntoView({ block: "nearest" });
});
on("modality files turns", draw);
