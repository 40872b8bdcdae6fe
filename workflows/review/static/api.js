// Talking to the desk: JSON in and out, the CSRF header, and errors that carry one plain line.

export class DeskError extends Error {
  // status 0: the desk did not answer at all.
  constructor(status, message, body = {}) {
    super(message);
    this.status = status;
    this.body = body;
  }

  get unreachable() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

let csrfToken = "";

export async function me() {
  const said = await get("/api/me");
  csrfToken = said.csrf_token ?? "";
  return said;
}

export const get = (path, options = {}) => send("GET", path, undefined, options);
export const post = (path, body = {}, options = {}) => send("POST", path, body, options);
export const remove = (path, options = {}) => send("DELETE", path, undefined, options);

async function send(method, path, body, options) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = csrfToken;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method, headers, credentials: "same-origin", body: body === undefined ? undefined : JSON.stringify(body), ...options,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new DeskError(0, "The desk does not answer.");
  }
  const said = await readBody(answer);
  if (answer.ok) return said;
  throw new DeskError(answer.status, said?.error || `The desk answered ${answer.status}.`, said ?? {});
}

async function readBody(answer) {
  if (answer.status === 204) return null;
  try {
    return await answer.json();
  } catch {
    return null;
  }
}

// Whoever is not signed in goes to the door, and comes back to this very page.
export function toSignIn() {
  location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
}

// crypto.randomUUID exists on secure origins only; a desk behind a plain-http name must work too.
export function requestId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
