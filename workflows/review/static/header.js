// The line at the top of each page: where one is, who one is, and what still waits to be sent.

import { post } from "./api.js";
import { fill, h } from "./dom.js";
import { showKeys } from "./keys.js";
import { watch } from "./outbox.js";

export function drawHeader(me, ...middle) {
  const pending = h("p", { class: "pending", role: "status", hidden: true });
  watch((count) => {
    pending.hidden = count === 0;
    pending.textContent = `${count} not sent yet; trying again`;
    pending.title = "The desk does not answer. What was signed is kept in this tab.";
  });
  const who = me.auth === "none" ? [h("span", { class: "name" }, me.full_name)] : [h("span", { class: "name" }, me.full_name), h("button", { type: "button", class: "quiet", onclick: signOut }, "Sign out")];
  fill(document.querySelector("header.bar"), h("a", { class: "brand", href: "/" }, "histograde ", h("span", {}, "review")), ...middle, pending,
    h("div", { class: "who" }, ...who, h("button", { type: "button", class: "quiet round", onclick: showKeys, "aria-label": "Keys", title: "Keys (?)" }, "?")));
}

async function signOut() {
  await post("/api/logout").catch(() => {});
  location.assign("/login");
}
