// Asks questions: one at a time, with the answer shown as it arrives, until it ends, is stopped or fails.
import { ask } from "./api.js";
import { announce } from "./dom.js";
import { changed, current, isComplete, on, state } from "./state.js";

let running = null;
export const stop = () => running?.abort();

const isUsable = ({ state, answer }) => state !== "failed" && answer.trim();

// isCaption: the question is the model's own wording.
export async function submit(question, isCaption = false) {
  if (running || !isComplete() || !question.trim()) return;
  const { modality, settings } = state;
  const session = current();
  const files = session.files.filter(Boolean);
  const dates = files.every((_, at) => session.dates[at]) && files.length > 1 ? session.dates : [];
  const turns = session.turns.filter(isUsable);
  const turn = { question: question.trim(), isCaption, answer: "", state: "writing" };
  session.turns.push(turn);
  const controller = (running = new AbortController());
  state.busy = true;
  changed("turns", "busy");
  announce("Writing the answer");
  const start = performance.now();
  try {
    const { signal } = controller;
    for await (const part of ask({ modality, files, dates, turns, question: turn.question, settings, signal })) {
      if (part.piece) {
        turn.answer += part.piece;
        changed("piece");
      } else Object.assign(turn, { state: part.reason === "stop" ? "done" : part.reason, tokens: part.tokens });
    }
    if (turn.state === "writing") turn.state = "done";
  } catch (error) {
    if (error.name === "AbortError") turn.state = "stopped";
    else Object.assign(turn, { state: "failed", note: error.message });
  }
  turn.seconds = (performance.now() - start) / 1000;
  running = null;
  state.busy = false;
  changed("turns", "busy");
  if (turn.state !== "failed") announce(turn.answer || "The answer was stopped");
}

export const caption = () => submit(state.info.caption_question, true);

export function retry(turn) {
  const session = current();
  session.turns = session.turns.filter((other) => other !== turn);
  submit(turn.question, turn.isCaption);
}

on("files modality", stop);
