// The server's HTTP API. Every error is a ServerError whose message is the line that the server sent.
import { state } from "./state.js";

export class ServerError extends Error {
  constructor(message, status = 0, wait = null) {
    super(message);
    Object.assign(this, { status, wait });
  }
}

const KEY = "btcchat key";
export const getKey = () => sessionStorage.getItem(KEY) ?? "";
export const setKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

async function send(path, { headers = {}, ...options } = {}) {
  if (getKey()) headers.Authorization = `Bearer ${getKey()}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError("The server cannot be reached. Is btcchat serve still running?");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => null);
  const message = body?.error?.message ?? `The server answered ${answer.status} ${answer.statusText}`;
  const wait = Number(answer.headers.get("Retry-After")) || null;
  if (answer.status === 401) document.dispatchEvent(new Event("key-needed"));
  throw new ServerError(message, answer.status, wait);
}

export const getInfo = async () => (await send("/v1/info")).json();

// Settings that say how images are read, as text fields.
export function readingOf({ bands, stretch, low, high }) {
  return { stretch: stretch === "values" ? `${low},${high}` : stretch, ...(bands && { bands }) };
}

function form(fields, files) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  for (const [name, file] of files) body.append(name, file, file.name);
  check(files.reduce((sum, [, file]) => sum + file.size, 0));
  return body;
}

// When a server ends an upload in the middle, the browser does not see the response, so the size is checked here.
function check(bytes) {
  const limit = state.info?.limits?.body_bytes;
  const mega = (count) => (count / 2 ** 20).toFixed(1);
  if (bytes > limit) {
    throw new ServerError(`These files have ${mega(bytes)} MiB in total; this server accepts at most ${mega(limit)} MiB.`);
  }
}

export async function getFrames(modality, files, settings, signal) {
  const body = form({ modality, ...readingOf(settings) }, files.map((file) => ["files", file]));
  return (await (await send("/v1/frames", { method: "POST", body, signal })).json()).frames;
}

// format: png, with `low` and `high`, the range of the map in 0 to 1; or geotiff.
export async function getChangeMap([before, after], settings, format = "png") {
  const body = form({ format, ...readingOf(settings) }, [["before", before], ["after", after]]);
  const answer = await send("/v1/change_map", { method: "POST", body });
  const [low, high] = (answer.headers.get("X-Change-Range") ?? "0,1").split(",").map(Number);
  return { blob: await answer.blob(), low, high };
}

const urls = new WeakMap(); // the files' data URLs, which every turn sends again
function dataUrl(file) {
  if (!urls.has(file)) {
    const reading = new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve(`data:application/octet-stream;base64,${reader.result.split(",")[1] ?? ""}`);
      reader.onerror = () => reject(new ServerError(`${file.name} can no longer be read; choose it again.`));
      reader.readAsDataURL(file);
    });
    urls.set(file, reading);
  }
  return urls.get(file);
}

async function messages(modality, files, turns, question) {
  const kind = modality === "video" ? "video_url" : "image_url";
  check((files.reduce((sum, file) => sum + file.size, 0) * 4) / 3);
  const images = await Promise.all(files.map(async (file) => ({ type: kind, [kind]: { url: await dataUrl(file) } })));
  const earlier = turns.flatMap((turn) => [
    { role: "user", content: turn.question },
    { role: "assistant", content: turn.answer },
  ]);
  const [first, ...others] = [...earlier, { role: "user", content: question }];
  return [{ role: "user", content: [...images, { type: "text", text: first.content }] }, ...others];
}

// Yields { piece } as the answer is written, then { reason, tokens }; reason: stop, length or seconds. Aborting `signal` ends the server's work too.
export async function* ask({ modality, files, dates, turns, question, settings, signal }) {
  const body = {
    model: state.info.model,
    messages: await messages(modality, files, turns, question),
    modality,
    ...(dates.length && { dates }),
    ...readingOf(settings),
    stream: true,
    stream_options: { include_usage: true },
    max_tokens: settings.max_tokens,
    temperature: settings.temperature,
  };
  const headers = { "Content-Type": "application/json" };
  const options = { method: "POST", headers, body: JSON.stringify(body), signal };
  const answer = await send("/v1/chat/completions", options);
  let reason = null;
  let cutBy = null;
  for await (const data of events(answer.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ServerError(chunk.error.message);
    const choice = chunk.choices[0];
    reason = choice?.finish_reason ?? reason;
    cutBy = chunk.btcchat?.cut_by ?? cutBy;
    if (choice?.delta.content) yield { piece: choice.delta.content };
    if (chunk.usage) yield { reason: cutBy ?? reason, tokens: chunk.usage.completion_tokens };
  }
  throw new ServerError("The connection closed before the answer was complete.");
}

// The data of server-sent events.
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) if (line.startsWith("data:")) yield line.slice(5).trimStart();
  }
}
