// Posts that must arrive. Each has a request_id, so that sending it twice writes it once. One that finds no desk waits
// in the tab's storage and is sent again, in order, until the desk has answered; an answer that says no comes back as an error.

import { DeskError, post, requestId } from "./api.js";
import { keep, kept } from "./drafts.js";

const WAITS_S = [2, 3, 5, 8, 15, 30];
const listeners = new Set();
let timer = 0;
let tries = 0;

export const waiting = () => kept("outbox") ?? [];

// watch(f): f(number of posts that wait) whenever it changes.
export function watch(listener) {
  listeners.add(listener);
  listener(waiting().length);
}

// The desk's answer; null where it did not answer and the post waits. `secret` fields are sent but never stored.
export async function deliver(path, body, secret = {}) {
  const letter = { path, body: { request_id: requestId(), ...body } };
  if (waiting().length && !Object.keys(secret).length) return queue(letter);
  try {
    return await post(path, { ...letter.body, ...secret });
  } catch (error) {
    if (!(error instanceof DeskError) || !error.unreachable || Object.keys(secret).length) throw error;
    return queue(letter);
  }
}

function queue(letter) {
  store([...waiting(), letter]);
  retryLater();
  return null;
}

export async function flush() {
  clearTimeout(timer);
  while (waiting().length) {
    const [first, ...rest] = waiting();
    try {
      const answer = await post(first.path, first.body);
      store(rest);
      document.dispatchEvent(new CustomEvent("desk:delivered", { detail: { letter: first, answer } }));
    } catch (error) {
      if (error.unreachable || error.status === 401) return retryLater();
      store(rest);
      document.dispatchEvent(new CustomEvent("desk:refused", { detail: { letter: first, error } }));
    }
    tries = 0;
  }
}

function store(letters) {
  keep("outbox", letters.length ? letters : null);
  listeners.forEach((listener) => listener(letters.length));
}

function retryLater() {
  clearTimeout(timer);
  timer = setTimeout(flush, 1000 * WAITS_S[Math.min(tries, WAITS_S.length - 1)]);
  tries += 1;
}

addEventListener("online", flush);
