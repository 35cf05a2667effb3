// Calls the HTTP API with the tab's token. Owns the token, the form of calls and of their errors.

const ROOT = new URL("../../../", import.meta.url); // this file is ui/VERSION/lib/api.js
const STORED = "taskfleet.token";
// What API Gateway says about a path that it does not know, without and with a token.
const UNKNOWN_PATH = /Missing Authentication Token|requires 'Credential' parameter/;

// An answer that is not a success. status: of HTTP, 0 without an answer. `missing` is true if the
// service does not have the call; `refused` if it does not accept the token.
export class ApiError extends Error {
  constructor(status, code, message, retryAfterS = null) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.retryAfterS = retryAfterS;
  }

  get missing() {
    return this.code === "MissingCall";
  }
}

let token = null;
let identity = null;
let askForToken = () => Promise.reject(new Error("nobody can be asked for a token"));
let asking = null;

try {
  token = sessionStorage.getItem(STORED);
} catch {
  token = null; // storage is switched off: the token lives as long as the page
}

export const api = {
  // "writer" or "reader"; "writer" while it is not known, since the API decides anyway.
  get role() {
    return identity?.role ?? "writer";
  },
  // {client_id, role, expires_at}, or null while it is not known.
  get identity() {
    return identity;
  },
  get token() {
    return token;
  },
  // Takes a token for this tab, or forgets it (null).
  setToken(value) {
    token = value;
    identity = null;
    try {
      if (value === null) sessionStorage.removeItem(STORED);
      else sessionStorage.setItem(STORED, value);
    } catch {
      // As above.
    }
  },
  // Sets the function that asks for a token. It gets the reason, and resolves once one is set.
  onTokenNeeded(ask) {
    askForToken = ask;
  },
  // Reads who the token names. A service without `GET /me` knows writers only.
  async identify() {
    try {
      identity = await api.get("me");
    } catch (error) {
      if (!error.missing) throw error;
      identity = { client_id: null, role: "writer", expires_at: null };
    }
    return identity;
  },
  get: (path, query, options) => json("GET", path, { query, ...options }),
  post: (path, body, options) => json("POST", path, { body: body ?? {}, ...options }),
  delete: (path, options) => json("DELETE", path, options),
  // Returns {text, headers} of an answer that is text.
  async text(path, query, options) {
    const answer = await call("GET", path, { query, ...options });
    return { text: await answer.text(), headers: answer.headers };
  },
  // Posts a text, such as a task file; returns the parsed JSON of the answer.
  async postText(path, body, query) {
    return (await call("POST", path, { query, raw: body, type: "text/plain; charset=utf-8" })).json();
  },
};

async function json(method, path, options) {
  return (await call(method, path, options)).json();
}

// Makes one call. When the service refuses the token, asks for another and tries again.
async function call(method, path, options = {}) {
  for (;;) {
    if (token === null) await newToken("");
    const sent = token;
    const answer = await send(method, path, sent, options);
    if (answer.ok) return answer;
    const error = await errorOf(answer);
    if (!isRefusal(method, error)) throw error;
    if (token === sent) {
      api.setToken(null);
      await newToken("The service does not accept this token. It is wrong, or it has expired.");
    }
  }
}

async function send(method, path, sent, { query, body, raw, type, signal } = {}) {
  const url = new URL(path.replace(/^\//, ""), ROOT);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  const headers = { Authorization: `Bearer ${sent}` };
  if (body !== undefined || raw !== undefined) headers["Content-Type"] = type ?? "application/json";
  try {
    return await fetch(url, {
      method,
      headers,
      body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
      signal,
      cache: "no-store",
      credentials: "omit",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "Unreachable", "The service does not answer. Look at the network, or at the service itself.");
  }
}

// The API has {Code, Message}; API Gateway before it has {message}.
async function errorOf(answer) {
  let told = {};
  try {
    told = await answer.json();
  } catch {
    // Not JSON: the status has to do.
  }
  const message = told.Message ?? told.message ?? `The service answered ${answer.status}.`;
  if (answer.status === 403 && UNKNOWN_PATH.test(message)) {
    return new ApiError(404, "MissingCall", "This service does not have this call. It may be an older version.");
  }
  const retryAfter = Number(answer.headers.get("Retry-After"));
  return new ApiError(answer.status, told.Code ?? "", message, retryAfter || null);
}

// A reader's writes are refused as well, and another token is not what is missing then.
function isRefusal(method, error) {
  if (error.status === 401) return true;
  if (error.status !== 403 || error.code !== "") return false;
  return method === "GET" || identity?.role !== "reader";
}

function newToken(reason) {
  asking ??= askForToken(reason).finally(() => {
    asking = null;
  });
  return asking;
}
