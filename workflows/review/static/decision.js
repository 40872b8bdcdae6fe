// The decision: one key chooses it, Enter signs it. What is typed is kept until it is signed.

import { requestId, toSignIn } from "./api.js";
import { keep, kept } from "./drafts.js";
import { fill, h } from "./dom.js";
import { PATTERNS, gradeGroup, knowsGleason } from "./gleason.js";
import { deliver } from "./outbox.js";
import { gradeWords } from "./words.js";

export const CHOICES = {
  accept: { words: "Accept", key: "a" },
  correct: { words: "Correct", key: "c" },
  reject: { words: "Reject", key: "x" },
  second_look: { words: "Second look", key: "s" },
};
const REASONS = ["Out of focus", "Scan or cut artefact", "No tissue of interest", "Wrong stain or organ", "Wrong slide"];

export class Decision {
  constructor({ found, me, model, say, shown, onSigned }) {
    Object.assign(this, { found, me, say, shown, onSigned, locked: "", busy: false });
    this.draft = kept(`decision.${found.case_id}`) ?? {};
    this.gleason = knowsGleason(model.task, found.classes);
    this.buttons = Object.entries(CHOICES).map(([action, { words, key }]) => h("button", {
      type: "button", class: `choose ${action}`, "aria-pressed": "false", onclick: () => this.choose(action), "data-action": action }, words, h("kbd", { "aria-hidden": "true" }, key.toUpperCase())));
    this.details = h("div", { class: "details" });
    this.comment = h("textarea", { rows: 2, maxlength: 4000, placeholder: "Comment (optional)", "aria-label": "Comment", value: this.draft.comment ?? "", oninput: () => this.remember({ comment: this.comment.value }) });
    this.password = h("input", { type: "password", autocomplete: "current-password", "aria-label": "Your password", placeholder: "Your password" });
    this.sign = h("button", { class: "primary", type: "submit" }, "Sign");
    this.signNext = h("button", { class: "plain", type: "button", onclick: () => this.submit(true), title: "Shift + Enter" }, "Sign, next case");
    this.commentOnly = h("button", { class: "quiet", type: "button", onclick: () => this.submitComment() }, "Only comment");
    this.standing = h("p", { class: "standing", role: "status", hidden: true });
    this.notice = h("p", { class: "notice", role: "status", hidden: true });
    this.form = h("form", { onsubmit: (event) => { event.preventDefault(); this.submit(false); } },
      h("div", { class: "choose-row", role: "group", "aria-label": "Decision" }, ...this.buttons), this.details, this.comment,
      h("div", { class: "signing" }, h("p", { class: "soft" }, "Signed as ", h("b", {}, me.full_name)), me.sign_with_password ? this.password : null),
      h("div", { class: "buttons" }, this.sign, this.signNext, this.commentOnly));
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey && event.target !== this.comment) { event.preventDefault(); this.submit(true); }
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.submit(false); }
    });
    this.root = h("section", { class: "block decision", "aria-labelledby": "decision-head" }, h("h2", { id: "decision-head", tabindex: "-1" }, "Your decision"), this.notice, this.standing, this.form);
    this.draw();
  }

  remember(change) {
    this.draft = { ...this.draft, ...change };
    keep(`decision.${this.found.case_id}`, this.draft);
  }

  choose(action) {
    if (this.locked) return this.say(this.locked, "warn");
    this.remember({ action, request_id: requestId() });
    this.draw();
    (this.details.querySelector("input:checked") ?? this.details.querySelector("input") ?? this.sign).focus();
  }

  // A digit while a grade is being corrected.
  pick(digit) {
    if (this.draft.action !== "correct" || !this.found.classes.includes(digit)) return false;
    this.remember({ grade: digit, gleason: null });
    this.draw();
    this.sign.focus();
    return true;
  }

  draw() {
    const { action } = this.draft;
    this.buttons.forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.action === action)));
    const parts = { accept: () => this.acceptPart(), correct: () => this.correctPart(), reject: () => this.reasonPart("Why", REASONS), second_look: () => this.reasonPart("What for", ["Borderline grade", "Unusual morphology", "Small focus", "Needs more levels or stains"]) };
    fill(this.details, action ? parts[action]() : h("p", { class: "note" }, "A, C, X or S; then Enter signs."));
    this.allow();
  }

  acceptPart() {
    return h("p", { class: "outcome" }, h("b", {}, this.found.label), " is right.");
  }

  correctPart() {
    const { classes, labels, predicted } = this.found;
    const short = labels.map((label) => label.replace("Grade group ", ""));
    const grades = h("fieldset", {}, h("legend", {}, this.gleason ? "Grade group" : "It is"), h("div", { class: "choices" }, ...classes.map((name, at) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "grade", value: name, checked: this.draft.grade === name, onchange: () => { this.remember({ grade: name, gleason: null }); this.draw(); this.focusGrade(); } }),
      h("span", { title: name === predicted ? "The model's own" : null, class: name === predicted ? "model-own" : "" }, short[at])))));
    return h("div", {}, grades, this.gleason ? this.patternPart() : null);
  }

  focusGrade() {
    this.details.querySelector("input[name=grade]:checked")?.focus();
  }

  patternPart() {
    const chosen = this.draft.gleason ?? {};
    const row = (which, words) => h("fieldset", {}, h("legend", {}, words), h("div", { class: "choices" }, ...PATTERNS.map((pattern) => h("label", { class: "choice" },
      h("input", { type: "radio", name: which, value: pattern, checked: chosen[which] === pattern, onchange: () => this.choosePattern(which, pattern) }), h("span", {}, String(pattern))))));
    const group = gradeGroup(chosen.primary, chosen.secondary);
    const outcome = group === null ? "or by patterns" : `Gleason ${chosen.primary} + ${chosen.secondary} = ${chosen.primary + chosen.secondary}: grade group ${group}`;
    return h("div", { class: "patterns" }, h("p", { class: "soft", role: "status" }, outcome), h("div", { class: "pair" }, row("primary", "Primary"), row("secondary", "Secondary")));
  }

  choosePattern(which, pattern) {
    const gleason = { ...(this.draft.gleason ?? {}), [which]: pattern };
    const group = gradeGroup(gleason.primary, gleason.secondary);
    this.remember({ gleason, grade: group ?? this.draft.grade });
    this.draw();
    this.details.querySelector(`input[name=${which}]:checked`).focus();
  }

  reasonPart(words, presets) {
    const given = this.draft.reason ?? "";
    const other = h("input", { type: "text", maxlength: 500, placeholder: "In your words", "aria-label": `${words}, in your words`, value: presets.includes(given) ? "" : given, oninput: (event) => { this.remember({ reason: event.target.value }); this.allow(); } });
    return h("fieldset", {}, h("legend", {}, words), h("div", { class: "choices" }, ...presets.map((preset) => h("label", { class: "choice" },
      h("input", { type: "radio", name: "reason", value: preset, checked: given === preset, onchange: () => { this.remember({ reason: preset }); other.value = ""; this.allow(); } }), h("span", {}, preset))), other));
  }

  // What is still missing before this can be signed; empty when nothing is.
  missing() {
    const { action, grade, gleason, reason } = this.draft;
    if (!action) return "Choose first: accept, correct, reject or second look.";
    if (action === "correct" && gleason && gradeGroup(gleason.primary, gleason.secondary) === null) return "Choose both patterns.";
    if (action === "correct" && grade === undefined) return "Choose the grade.";
    if (action === "correct" && grade === this.found.predicted) return "That is the model's own grade: accept it instead.";
    if (action === "reject" && !reason?.trim()) return "Say why the slide is rejected.";
    return "";
  }

  allow() {
    const missing = this.missing();
    this.sign.textContent = this.signText();
    for (const button of [this.sign, this.signNext]) {
      button.setAttribute("aria-disabled", String(Boolean(missing || this.locked || this.busy)));
      button.title = this.locked || missing || button.title;
    }
  }

  signText() {
    const { action, grade } = this.draft;
    const { classes, labels, label } = this.found;
    if (action === "accept") return `Sign: ${label}`;
    if (action === "correct" && grade !== undefined) return `Sign: ${gradeWords(grade, classes, labels)}`;
    return { reject: "Sign: rejected", second_look: "Sign: second look" }[action] ?? "Sign";
  }

  // What the reader has signed before and still stands: words, or empty.
  stands(words) {
    this.standing.hidden = !words;
    fill(this.standing, h("b", {}, words), " stands. N opens the next case.");
  }

  // reason: why nobody but another reader may decide now; empty: it is this reader's case.
  lock(reason) {
    this.locked = reason;
    this.notice.hidden = !reason;
    this.notice.textContent = reason;
    this.root.classList.toggle("locked", Boolean(reason));
    this.allow();
  }

  async submit(thenNext) {
    const problem = this.locked || this.missing();
    if (problem || this.busy) return problem && this.say(problem, "warn");
    const { action, grade, gleason, reason } = this.draft;
    const body = { request_id: this.draft.request_id, action };
    if (action === "correct") Object.assign(body, { grade }, gleason ? { gleason } : {});
    if (["reject", "second_look"].includes(action) && reason?.trim()) body.reason = reason.trim();
    return this.send(body, thenNext);
  }

  async submitComment() {
    if (!this.comment.value.trim()) return this.say("Type the comment first.", "warn");
    return this.locked ? this.say(this.locked, "warn") : this.send({ action: "comment" }, false);
  }

  async send(body, thenNext) {
    if (this.comment.value.trim()) body.comment = this.comment.value.trim();
    body.shown = this.shown();
    this.busy = true;
    this.allow();
    try {
      const secret = this.me.sign_with_password && body.action !== "comment" ? { password: this.password.value } : {};
      const answer = await deliver(`/api/cases/${this.found.case_id}/decisions`, body, secret);
      this.forget();
      this.onSigned(body, answer, thenNext);
    } catch (error) {
      if (error.status === 401 && this.me.auth === "password" && !body.password) return this.say("You are signed out. What you typed is kept.", "warn", { words: "Sign in", run: toSignIn });
      this.say(`${error.message}${error.unreachable ? " What you typed is kept; sign again." : ""}`, "warn");
    } finally {
      this.busy = false;
      this.allow();
    }
  }

  forget() {
    this.draft = {};
    keep(`decision.${this.found.case_id}`, null);
    this.comment.value = "";
    this.password.value = "";
    this.draw();
  }
}
