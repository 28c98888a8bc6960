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

// Frames and maps come from the server again; an answer that was being written is kept as far as it went.
function kept() {
  const { modality, settings, map } = state;
  const sessions = Object.entries(state.sessions).map(([name, { files, dates, shown, turns }]) => {
    const ended = turns.map((turn) => (turn.state === "writing" ? { ...turn, state: "stopped" } : turn));
    return [name, { files, dates, shown, turns: ended }];
  });
  return { modality, settings, map, sessions: Object.fromEntries(sessions) };
}

// Whether anything was there. A browser that keeps nothing (a private window, a full disk) is no fault.
export async function restore() {
  const found = await transact("readonly", (store) => store.get("state")).catch(() => null);
  if (!found) return;
  const { sessions, ...others } = found;
  Object.assign(state, others);
  for (const [name, session] of Object.entries(sessions)) Object.assign(state.sessions[name] ?? {}, session);
}

let timer = null;
export function keep() {
  clearTimeout(timer);
  timer = setTimeout(() => transact("readwrite", (store) => store.put(kept(), "state")).catch(() => {}), 200);
}

export const watch = () => on("modality files dates stage turns settings map", keep);
