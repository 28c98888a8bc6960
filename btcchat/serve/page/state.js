// What the page knows. Each modality has its own session: its images, and the conversation about them.
export const MODALITIES = {
  pair: {
    about: "Two images of one place",
    most: 2,
    zones: [["Before", "The earlier image"], ["After", "The later image"]],
    questions: ["How many changes are there?", "What was removed?", "Was a road removed?"],
  },
  image: {
    about: "One image",
    most: 1,
    zones: [["Image", "One scene"]],
    questions: ["Describe the scene.", "How many houses are there?", "Is there a pond?"],
  },
  series: {
    about: "Several dates of one place, oldest first",
    most: Infinity,
    zones: [["Series", "All dates of one place"]],
    questions: ["What happens in this series?", "When did it happen?"],
  },
  video: {
    about: "One video clip",
    most: 1,
    zones: [["Video", "MP4, WebM or another clip"]],
    questions: ["What happens in this video?", "When did it happen?"],
  },
};

const session = () => ({ files: [], dates: [], frames: [], shown: 1, turns: [], map: null });

// files: File or undefined, in order of time; dates: text of each; frames: as the server shows them to the model;
// shown: the date on the stage; turns: { question, answer, isCaption, state, note, tokens, seconds }, of which state
// is writing, done, stopped, length, seconds (cut off by a limit) or failed;
// map: { width, height, values (Uint8Array), low, high }, fetched for the frames at hand.
export const state = {
  info: null, // of the server
  modality: "pair",
  sessions: Object.fromEntries(Object.keys(MODALITIES).map((name) => [name, session()])),
  settings: {}, // in use: what was chosen, else the server's defaults
  chosen: null,
  map: { on: false, opacity: 0.75, threshold: null },
  busy: false, // an answer is being written
};

export const current = () => state.sessions[state.modality];
export const isComplete = ({ files } = current(), modality = state.modality) => {
  const least = { pair: 2, series: 2 }[modality] ?? 1;
  return files.filter(Boolean).length >= least;
};

const bus = new EventTarget();
// Names: modality, files, dates, frames, stage (drawn), turns, piece (of an answer), busy, settings, reading (of images), map, info.
export const changed = (...names) => names.forEach((name) => bus.dispatchEvent(new Event(name)));
export const on = (names, listener) => names.split(" ").forEach((name) => bus.addEventListener(name, listener));
