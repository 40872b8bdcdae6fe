// The worklist: cases by urgency, a page at a time from the desk, so that a hundred thousand are as quick as ten.

import { get, me, toSignIn } from "./api.js";
import { fill, find, h } from "./dom.js";
import { drawHeader } from "./header.js";
import { bind, listen } from "./keys.js";
import { flush } from "./outbox.js";
import { PAGE, addressOf, apiPath, isFiltered, readQuery } from "./worklist_query.js";
import { caseRow } from "./worklist_row.js";
import { DONE, FLAGS, STATES, count } from "./words.js";

const REFRESH_S = 30;
const SEARCH_MS = 200;
const desk = { query: readQuery(), me: null, page: null, run: null, current: -1, turn: 0 };

async function start() {
  const [reader, run] = await Promise.all([me(), get("/api/run")]);
  desk.run = run;
  drawHeader(reader, h("div", { class: "crumbs" }, h("div", { class: "what" }, h("h1", {}, "Worklist"), h("p", { class: "soft" }, desk.run.name))));
  find("#disclaimer").textContent = desk.run.disclaimer;
  desk.me = reader;
  find("#search").placeholder = reader.sees_patients ? "Slide or patient" : "Slide";
  drawFilters();
  bindKeys();
  listen();
  flush();
  addEventListener("popstate", () => { desk.query = readQuery(); drawFilters(); load(); });
  setInterval(() => document.visibilityState === "visible" && load({ quiet: true }), 1000 * REFRESH_S);
  await load();
}

async function load({ quiet = false } = {}) {
  const turn = (desk.turn += 1);
  if (!quiet) find("#cases").setAttribute("aria-busy", "true");
  try {
    const page = await get(apiPath(desk.query));
    if (turn !== desk.turn) return;
    desk.page = page;
    draw(quiet);
  } catch (error) {
    if (error.status === 401) toSignIn();
    else if (!quiet) trouble(error);
  }
}

function change(changes, { typing = false } = {}) {
  desk.query = { ...desk.query, offset: 0, ...changes };
  history[typing ? "replaceState" : "pushState"](null, "", addressOf(desk.query));
  desk.current = -1;
  return load();
}

function draw(quiet) {
  const { cases, total, offset, counts } = desk.page;
  find("#cases").setAttribute("aria-busy", "false");
  drawProgress(counts);
  drawChips(counts);
  drawHeads();
  fill(find("#rows"), ...cases.map((found) => caseRow(found, desk.run.model, { open: openCase })));
  find("#cases").hidden = cases.length === 0;
  find("#nothing").hidden = cases.length > 0;
  if (!cases.length) fill(find("#nothing"), ...emptyWords());
  const range = total ? `${count(offset + 1)}–${count(offset + cases.length)} of ${count(total)}` : "";
  find("#range").textContent = range;
  find("#found").textContent = `${count(total)} ${total === 1 ? "case" : "cases"}`;
  if (!quiet) find("#told").textContent = total ? `Cases ${range}` : "No case matches";
  find("#back").disabled = offset === 0;
  find("#forth").disabled = offset + cases.length >= total;
  find("#pager").hidden = total <= PAGE;
  mark(desk.current, false);
}

function emptyWords() {
  if (!isFiltered(desk.query)) return [h("p", {}, "This run has graded no slide.")];
  return [h("p", {}, "No case matches."), h("p", {}, h("button", { type: "button", class: "plain", onclick: clear }, "Show all cases"))];
}

function clear() {
  find("#search").value = "";
  change({ q: "", state: "", predicted: "", flag: "", reader: "" });
  drawFilters();
}

function drawProgress(counts) {
  const all = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const done = DONE.reduce((sum, state) => sum + (counts[state] ?? 0), 0);
  find("#done").textContent = all ? `${count(done)} of ${count(all)} decided (${Math.floor((100 * done) / all)} %)` : "";
  const order = ["accepted", "corrected", "rejected", "second_look", "open", "new"];
  fill(find("#progress"), ...order.filter((state) => counts[state]).map((state) => h("span", { class: state, style: { "flex-grow": counts[state] }, title: `${STATES[state]}: ${count(counts[state])}` })));
}

function drawChips(counts) {
  const all = Object.values(counts).reduce((sum, one) => sum + one, 0);
  const chip = (state, words, number) => h("button", { type: "button", class: `chip ${state}`, "aria-pressed": String(desk.query.state === state), onclick: () => change({ state }) }, words, " ", h("b", {}, count(number)));
  fill(find("#states"), chip("", "All", all), ...Object.entries(STATES).map(([state, words]) => chip(state, words, counts[state] ?? 0)));
  find("#mine").checked = desk.query.reader === desk.me.name;
}

function drawFilters() {
  const { classes, labels, task } = desk.run.model;
  find("#search").value = desk.query.q;
  const select = (id, name, first, options) => fill(find(id), h("option", { value: "" }, first), ...options.map(([value, words]) => h("option", { value, selected: desk.query[name] === value }, words)));
  select("#predicted", "predicted", task === "grade" ? "Any grade" : "Any class", classes.map((value, at) => [value, labels[at]]));
  select("#flag", "flag", "Any flag", Object.entries(FLAGS));
}

function drawHeads() {
  for (const head of document.querySelectorAll("#cases th[data-sort]")) {
    const chosen = desk.query.sort === head.dataset.sort;
    const falling = (desk.query.order || head.dataset.first) === "desc";
    if (chosen) head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
}

function sortBy(head) {
  const { sort, first } = head.dataset;
  const now = desk.query.sort === sort ? desk.query.order || first : null;
  const order = now === null ? first : now === "asc" ? "desc" : "asc";
  change({ sort, order: sort === "urgency" && order === first ? "" : order });
}

function openCase(found, event = {}) {
  if (event.ctrlKey || event.metaKey) open(`/case/${found.case_id}`);
  else location.assign(`/case/${found.case_id}`);
}

// The row that the keys are at.
function mark(at, scroll = true) {
  const rows = [...find("#rows").rows];
  desk.current = Math.min(at, rows.length - 1);
  rows.forEach((row, index) => row.classList.toggle("current", index === desk.current));
  const row = rows[desk.current];
  if (!row || !scroll) return;
  row.querySelector("a").focus({ preventScroll: true });
  row.scrollIntoView({ block: "nearest" });
}

async function move(by) {
  const { cases, offset, total } = desk.page;
  const to = desk.current + by;
  if (to >= 0 && to < cases.length) return mark(to);
  if (to >= cases.length && offset + cases.length < total) { await turnPage(1); return mark(0); }
  if (to < 0 && offset > 0) { await turnPage(-1); return mark(PAGE - 1); }
  return undefined;
}

async function turnPage(by) {
  await change({ offset: Math.max(0, desk.query.offset + by * PAGE) });
  scrollTo({ top: 0 });
}

function bindKeys() {
  const group = "Worklist";
  for (const [key, by] of [["j", 1], ["k", -1], ["ArrowDown", 1], ["ArrowUp", -1]]) bind(key, { words: by > 0 ? "Next row" : "Row before", group, repeats: true, run: () => move(by) });
  bind("Enter", { words: "Open the case", group, run: () => desk.current >= 0 && openCase(desk.page.cases[desk.current]) });
  bind("/", { words: "Search", group, run: () => find("#search").select() });
  bind("n", { words: "Open the most urgent free case", group, run: openNext });
  for (const head of document.querySelectorAll("#cases th[data-sort]")) find("button", head).addEventListener("click", () => sortBy(head));
  find("#back").addEventListener("click", () => turnPage(-1));
  find("#forth").addEventListener("click", () => turnPage(1));
  find("#next").addEventListener("click", openNext);
  for (const name of ["predicted", "flag"]) find(`#${name}`).addEventListener("change", (event) => change({ [name]: event.target.value }));
  find("#mine").addEventListener("change", (event) => change({ reader: event.target.checked ? desk.me.name : "" }));
  let timer = 0;
  find("#search").addEventListener("input", (event) => { clearTimeout(timer); timer = setTimeout(() => change({ q: event.target.value.trim() }, { typing: true }), SEARCH_MS); });
  find("#search").addEventListener("keydown", (event) => { if (event.key === "Escape" || event.key === "Enter") { event.target.blur(); mark(0); } });
  find("#find").addEventListener("submit", (event) => event.preventDefault());
}

async function openNext() {
  try {
    const coming = await get("/api/cases/next");
    if (coming) return openCase(coming);
    find("#told").textContent = "No undecided case is left that is free.";
  } catch (error) {
    trouble(error);
  }
  return undefined;
}

function trouble(error) {
  if (error.status === 401) return toSignIn();
  find("#cases").setAttribute("aria-busy", "false");
  find("#cases").hidden = true;
  find("#nothing").hidden = false;
  return fill(find("#nothing"), h("p", {}, error.message), h("p", {}, h("button", { type: "button", class: "plain", onclick: () => location.reload() }, "Try again")));
}

start().catch(trouble);
