// Sends files to the bucket, each content once: `POST /uploads` answers with a form, or that the
// content is stored already.

import { ApiError } from "./api.js";

const AT_A_TIME = 4;

// Sends one file. Returns the upload's id, by which tasks refer to it.
export async function sendFile(file, { api, signal }) {
  const content = await file.arrayBuffer();
  const wanted = { sha256: hex(await crypto.subtle.digest("SHA-256", content)), bytes: content.byteLength };
  const answer = await api.post("uploads", wanted, { signal });
  if (answer.stored) return answer.upload_id;
  const form = new FormData();
  for (const [name, value] of Object.entries(answer.fields)) form.append(name, value);
  form.append("file", new Blob([content]), "file");
  try {
    // The bucket allows no page to read its answers, so this one is unseen.
    await fetch(answer.url, { method: "POST", body: form, mode: "no-cors", credentials: "omit", signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "Unreachable", `${file.name} could not be sent: the bucket does not answer. Try again.`);
  }
  const after = await api.post("uploads", wanted, { signal });
  if (!after.stored) {
    throw new ApiError(0, "NotStored", `${file.name} could not be stored: the bucket refused it. Try again, or send it with the command line, which says why.`);
  }
  return after.upload_id;
}

// Sends files, some at a time. Returns file -> upload's id. onSent(done, all) is told of each.
export async function sendFiles(files, context, onSent) {
  const unsent = [...new Set(files)];
  const all = unsent.length;
  const ids = new Map();
  onSent(0, all);
  async function sender() {
    for (let file = unsent.shift(); file; file = unsent.shift()) {
      ids.set(file, await sendFile(file, context));
      onSent(ids.size, all);
    }
  }
  try {
    await Promise.all(Array.from({ length: Math.min(AT_A_TIME, all) }, sender));
  } catch (error) {
    unsent.length = 0; // the other senders stop after the file in hand
    throw error;
  }
  return ids;
}

function hex(buffer) {
  return Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
