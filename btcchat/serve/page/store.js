// Keeps images, conversations and settings in this browser, so that a reload loses nothing.
import { on, state } from "./state.js";

function database() {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("btcchat", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("page");
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

async function transact(mode, act) {
  const base = await database();
  return new Promise((resolve, reject) => {
    const request = act(base.transaction("page", mode).objectStore("page"));
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  }).finally(() => base.close());
}

// Two entries: the files, which may be large, and the rest, which changes at every turn. Frames and maps are fetched
// from the server again; an answer that was being written is kept as far as it had come.
const entries = {
  files: () => Object.fromEntries(Object.entries(state.sessions).map(([name, { files }]) => [name, files])),
  rest() {
    const { modality, chosen, map } = state;
    const sessions = Object.entries(state.sessions).map(([name, { dates, shown, turns }]) => {
      const ended = turns.map((turn) => (turn.state === "writing" ? { ...turn, state: "stopped" } : turn));
      return [name, { dates, shown, turns: ended }];
    });
    return { modality, chosen, map, sessions: Object.fromEntries(sessions) };
  },
};

// A browser that keeps nothing (a private window, a full disk) is not a fault.
export async function restore() {
  const read = (name) => transact("readonly", (store) => store.get(name)).catch(() => null);
  const [files, rest] = await Promise.all([read("files"), read("rest")]);
  if (!files || !rest) return;
  const { sessions, ...others } = rest;
  Object.assign(state, others);
  for (const [name, session] of Object.entries(sessions)) Object.assign(state.sessions[name], session, { files: files[name] });
}

const timers = {};
function keep(name) {
  clearTimeout(timers[name]);
  timers[name] = setTimeout(() => transact("readwrite", (store) => store.put(entries[name](), name)).catch(() => {}), 200);
}

export function watch() {
  on("files", () => keep("files"));
  on("modality files dates stage turns settings map", () => keep("rest"));
}
