// The page of one case. It opens a case, closes it, and moves to the next without loading the page again.

import { DeskError, get, me, toSignIn } from "./api.js";
import { Claim } from "./claim.js";
import { fill, find, h } from "./dom.js";
import { drawHeader } from "./header.js";
import { icon } from "./icons.js";
import { listen, unbind } from "./keys.js";
import { OpenCase } from "./open_case.js";
import { flush } from "./outbox.js";
import { loadSlide, preload } from "./preload.js";
import { say } from "./say.js";
import { STATES, count } from "./words.js";

const desk = { me: null, run: null, open: null, claim: null, nextId: null, turn: 0 };
const place = { crumbs: h("div", { class: "crumbs" }), moves: h("nav", { class: "moves", "aria-label": "Cases" }) };

const caseInAddress = () => Number(location.pathname.match(/^\/case\/(\d+)/)[1]);

async function start() {
  loadSlide(caseInAddress()).catch(() => {});
  [desk.me, desk.run] = await Promise.all([me(), get("/api/run")]);
  drawHeader(desk.me, place.crumbs, place.moves);
  listen();
  flush();
  addEventListener("popstate", () => show(caseInAddress()));
  addEventListener("pagehide", () => desk.claim?.leave());
  document.addEventListener("desk:delivered", ({ detail }) => { say("Sent. Nothing was lost.", "good"); desk.open?.delivered(detail); });
  document.addEventListener("desk:refused", ({ detail }) => say(`Not taken: ${detail.error.message}`, "warn"));
  await show(caseInAddress());
}

// Leave one case and open another.
async function show(caseId) {
  const turn = (desk.turn += 1);
  desk.claim?.leave();
  desk.open?.close();
  Object.assign(desk, { open: null, claim: null });
  unbind();
  fill(find("#stage"), h("p", { class: "wait" }, "Opening the slide…"));
  fill(find("#panel"));
  try {
    const [found, [slide, maps]] = await Promise.all([get(`/api/cases/${caseId}`), loadSlide(caseId)]);
    if (turn !== desk.turn) return;
    document.title = `${found.slide_id} – histograde review`;
    drawCrumbs(found);
    desk.open = new OpenCase({ found, slide, maps, me: desk.me, model: desk.run.model, next, onState: (state) => drawCrumbs({ ...found, state }) });
    desk.claim = new Claim(caseId, (reason) => {
      desk.open?.lock(reason);
      if (!reason && found.state === "new") drawCrumbs(Object.assign(found, { state: "open" }));
    });
    desk.claim.take();
    await desk.open.mount(find("#stage"), find("#panel"));
    if (turn === desk.turn) lookAhead(found);
  } catch (error) {
    if (turn === desk.turn) trouble(error);
  }
}

async function lookAhead(found) {
  const coming = await get(`/api/cases/next?after=${found.case_id}`).catch(() => null);
  desk.nextId = coming?.case_id ?? null;
  if (desk.nextId && desk.nextId !== found.case_id) preload(desk.nextId, find("#stage").clientWidth * devicePixelRatio);
}

async function next() {
  const coming = await get(`/api/cases/next?after=${caseInAddress()}`).catch(() => ({ case_id: desk.nextId }));
  if (!coming?.case_id) return say("No undecided case is left that is free.", "good", { words: "Worklist", run: () => location.assign("/") });
  return moveTo(coming.case_id);
}

function moveTo(caseId) {
  history.pushState(null, "", `/case/${caseId}`);
  return show(caseId);
}

function drawCrumbs(found) {
  const { previous, next: following } = found.position ?? {};
  fill(place.crumbs, h("div", { class: "what" }, h("h1", {}, found.slide_id), h("p", { class: "soft" }, found.patient_id && found.patient_id !== found.slide_id ? `Patient ${found.patient_id} · ` : "", `place ${count(found.rank)}`)),
    h("span", { class: `state ${found.state}` }, STATES[found.state] ?? found.state));
  const step = (caseId, words, name) => h("button", { type: "button", class: "quiet round", disabled: !caseId, "aria-label": words, title: words, onclick: () => moveTo(caseId) }, icon(name));
  fill(place.moves, step(previous, "The case before, by place", "previous"), step(following, "The case after, by place", "next"),
    h("button", { type: "button", class: "plain", onclick: next, title: "N: the most urgent case that nobody has" }, "Next case"),
    h("a", { class: "quiet round", href: `/case/${found.case_id}/print`, target: "_blank", "aria-label": "Print view", title: "Print view" }, icon("print")));
}

function trouble(error) {
  if (!(error instanceof DeskError)) console.error(error);
  if (error.status === 401) return toSignIn();
  return fill(find("#stage"), h("div", { class: "wait" }, h("p", {}, error.message), h("p", {}, h("button", { type: "button", class: "plain", onclick: () => show(caseInAddress()) }, "Try again"), " ", h("a", { href: "/" }, "Worklist"))));
}

start().catch(trouble);
