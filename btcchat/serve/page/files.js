// Which files the session has, in order of time, and how the server shows them to the model.
import { getFrames } from "./api.js";
import { announce, showFault } from "./dom.js";
import { changed, current, isComplete, MODALITIES, on, state } from "./state.js";

const DATE = /(?<!\d)((?:19|20)\d\d)(?:[-_.]?(0[1-9]|1[0-2])(?:[-_.]?(0[1-9]|[12]\d|3[01]))?)?(?!\d)/;
export const dateOf = (name) => DATE.exec(name)?.slice(1).filter(Boolean).join("-") ?? "";

// Sorts by date if all names have one, else by the words before and after, then by name (2 before 10).
export function inOrder(files) {
  const place = ({ name }) => (/before|pre[-_. ]/i.test(name) ? 0 : /after|post[-_. ]/i.test(name) ? 2 : 1);
  const areDated = files.every((file) => dateOf(file.name));
  return [...files].sort(
    (a, b) =>
      (areDated ? dateOf(a.name).localeCompare(dateOf(b.name)) : place(a) - place(b)) ||
      a.name.localeCompare(b.name, undefined, { numeric: true }),
  );
}

// slot: where a single file was dropped or chosen, if anywhere in particular.
export function addFiles(added, slot) {
  const session = current();
  const files = [...session.files];
  const dates = [...session.dates];
  const put = (at, file) => {
    files[at] = file;
    dates[at] = dateOf(file.name);
  };
  const ordered = inOrder([...added]);
  if (!ordered.length) return;
  const { most } = MODALITIES[state.modality];
  if (ordered.length === 1 && slot != null) put(slot, ordered[0]);
  else if (most === 1) put(0, ordered[0]);
  else if (most === 2 && ordered.length > 1) ordered.slice(0, 2).forEach((file, at) => put(at, file));
  else if (most === 2) put(files[0] ? 1 : 0, ordered[0]);
  else ordered.forEach((file) => put(files.length, file));
  showFault(ordered.length > most ? `${ordered.length} files were given; the first ${most} are used.` : "");
  setFiles(files, dates);
}

// New images start a new conversation.
export function setFiles(files, dates) {
  Object.assign(current(), { files, dates, frames: [], turns: [], map: null, shown: Math.max(1, files.length - 1) });
  changed("files", "turns");
  loadFrames();
}

export function swap() {
  const { files, dates } = current();
  setFiles([...files].reverse(), [...dates].reverse());
  announce("The dates were swapped");
}

let loading = null;
export const isLoading = () => loading !== null;

export async function loadFrames() {
  loading?.abort();
  loading = null;
  const session = current();
  const files = session.files.filter(Boolean);
  if (!files.length || !state.info) return changed("frames");
  const mine = (loading = new AbortController());
  changed("frames");
  try {
    const modality = isComplete() ? state.modality : "image"; // one date of a pair is shown by itself
    const shown = isComplete() ? files : files.slice(0, 1);
    session.frames = await getFrames(modality, shown, state.settings, mine.signal);
    session.map = null;
    if (isComplete()) announce(`${session.frames.length} ${session.frames.length === 1 ? "image" : "images"} loaded`);
  } catch (error) {
    if (error.name === "AbortError") return;
    session.frames = [];
    showFault(error.message);
  } finally {
    if (loading === mine) {
      loading = null;
      changed("frames");
    }
  }
}

on("reading", () => {
  for (const session of Object.values(state.sessions)) Object.assign(session, { frames: [], map: null });
  loadFrames();
});
on("modality", () => {
  showFault();
  if (!current().frames.length) loadFrames();
});
