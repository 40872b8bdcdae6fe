// One case that is open: its slide with everything over it, and the panel beside it.

import { get } from "./api.js";
import { Compare } from "./compare.js";
import { CHOICES, Decision } from "./decision.js";
import { fill, h } from "./dom.js";
import { Drawing } from "./draw.js";
import { HeatCard } from "./heat_card.js";
import { HeatLayer } from "./heat_layer.js";
import { bind } from "./keys.js";
import { Marks } from "./marks.js";
import { modelPanel } from "./model_panel.js";
import { deliver } from "./outbox.js";
import { Pane } from "./pane.js";
import { Regions } from "./regions.js";
import { say } from "./say.js";
import { topTiles } from "./strip.js";
import { Toolbar } from "./toolbar.js";
import { Trail, entryWords, lastOwn } from "./trail.js";
import { gradeWords } from "./words.js";

// The case for other programs.
function files(caseId) {
  const link = (name, words) => h("li", {}, h("a", { href: `/api/cases/${caseId}/${name}`, download: "" }, words));
  return h("section", { class: "block files", "aria-labelledby": "files-head" }, h("h2", { id: "files-head" }, "Files"),
    h("ul", {}, link("heatmap.geojson", "Tiles and maps as GeoJSON, for QuPath"), link("heatmap.ome.tiff", "Maps as OME-TIFF"), link("regions.geojson", "Regions as GeoJSON, for QuPath"), h("li", {}, h("a", { href: `/case/${caseId}/print`, target: "_blank" }, "Case on one sheet, to print or as PDF"))));
}

export class OpenCase {
  constructor(parts) {
    Object.assign(this, parts);
    this.decision = new Decision({ found: this.found, me: this.me, model: this.model, say, shown: () => this.shown(), onSigned: (...said) => this.signed(...said) });
    this.trail = new Trail({ found: this.found, onUndo: (entry) => this.undo(entry) });
  }

  async mount(stage, panel) {
    const { found, slide, maps } = this;
    fill(panel, modelPanel(found, this.model), this.decision.root, this.trail.root);
    this.bindDecision();
    this.refresh();
    if (!slide.available) return this.withoutSlide(stage);
    this.pane = new Pane(found.case_id, slide, `Slide ${found.slide_id}`);
    const views = h("div", { class: "views" }, this.pane.root);
    fill(stage, views);
    this.views = views;
    const strip = maps.top_tiles.length ? topTiles(maps.top_tiles, { go: (tile) => this.pane.goTo(tile), light: (number) => this.marks?.light(number) }) : null;
    if (strip) stage.append(strip);
    await this.pane.open();
    if (this.closed) return;
    this.pane.fit();
    this.overTheSlide(panel, strip);
  }

  overTheSlide(panel, strip) {
    const { found, slide, maps, pane } = this;
    this.marks = new Marks(pane.overlay, maps);
    this.regions = new Regions({ caseId: found.case_id, pane, model: this.model, regions: found.regions, say, mayWrite: () => !this.decision.locked, onChange: () => this.refresh(), drawing: null });
    this.drawing = new Drawing(pane, { onChange: () => this.toolbar?.follow(), onDone: () => this.regions.ask() });
    this.regions.drawing = this.drawing;
    this.heatCard = new HeatCard(maps, [{ layer: new HeatLayer(pane.viewer, found.case_id, slide), maps: maps.maps }]);
    this.compare = new Compare({ host: this.views, pane, heatCard: this.heatCard, say });
    this.toolbar = new Toolbar({ ...this, strip, pickGrade: (digit) => this.decision.pick(digit) });
    this.views.append(this.toolbar.root, this.toolbar.magnifications, this.heatCard.root);
    panel.insertBefore(this.regions.root, this.trail.root);
    panel.append(files(found.case_id));
    this.heatCard.bindKeys(bind);
    this.toolbar.bindKeys(bind);
    this.regions.recall();
  }

  withoutSlide(stage) {
    fill(stage, h("div", { class: "wait" }, h("img", { src: `/api/cases/${this.found.case_id}/thumbnail.jpg`, alt: "The slide at low resolution" }), h("p", {}, this.slide.message ?? "The slide's file is not there.")));
  }

  bindDecision() {
    const group = "Decide";
    for (const [action, { words, key }] of Object.entries(CHOICES)) bind(key, { words, group, run: () => this.decision.choose(action) });
    bind("Enter", { words: "Sign", group, run: () => this.decision.submit(false) });
    bind("n", { words: "Next case", group, run: () => this.next() });
    bind("i", { words: "Type a comment", group, run: () => this.decision.comment.focus() });
    bind("w", { words: "Worklist", group, run: () => location.assign("/") });
  }

  shown() {
    return this.pane?.image ? { ...this.heatCard.shown(), view: this.pane.view() } : {};
  }

  async refresh() {
    try {
      const entries = await get(`/api/cases/${this.found.case_id}/trail`);
      const own = lastOwn(entries, this.me.full_name);
      this.trail.show(entries, own?.entry);
      this.decision.stands(own ? entryWords(own, this.found) : "");
    } catch (error) {
      if (!error.unreachable) say(error.message, "warn");
    }
  }

  // A decision that waited has arrived.
  delivered({ letter, answer }) {
    if (letter.path.startsWith(`/api/cases/${this.found.case_id}/`) && answer.state) this.onState(answer.state);
    return this.refresh();
  }

  signed(body, answer, thenNext) {
    if (!answer) say("The desk does not answer. Your decision is kept here and will be sent.", "warn");
    else say(this.signedWords(body), "good", body.action === "comment" ? null : { words: "Undo", run: () => this.undo(answer.entry) });
    if (answer?.state) this.onState(answer.state);
    if (thenNext) return this.next();
    return this.refresh();
  }

  signedWords({ action, grade }) {
    const { classes, labels, label } = this.found;
    const words = { accept: `Signed: ${label}`, correct: `Signed: corrected to ${gradeWords(grade, classes, labels)}`, reject: "Signed: rejected", second_look: "Signed: needs a second look", comment: "Comment added" };
    return `${words[action]}.`;
  }

  async undo(entry) {
    try {
      const answer = await deliver(`/api/cases/${this.found.case_id}/decisions`, { action: "undo", undoes: entry.entry ?? entry, shown: this.shown() });
      if (answer?.state) this.onState(answer.state);
      say("Taken back. The trail keeps both entries.", "good");
      await this.refresh();
    } catch (error) {
      say(error.message, "warn");
    }
  }

  lock(reason) {
    this.decision.lock(reason);
    this.regions?.show();
  }

  close() {
    this.closed = true;
    this.compare?.close();
    this.pane?.close();
  }
}
