// Finding and sorting in the worklist; maps, strength and markers on a slide's page. The pages are complete without it.
(() => {
  "use strict";
  const all = (selector) => [...document.querySelectorAll(selector)];
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();
  all(".tools").forEach((tools) => { tools.hidden = false; });

  const table = document.getElementById("slides");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const words = (row) => [row.dataset.slide, row.dataset.patient, ...[".grade", ".reason"].map((cell) => row.querySelector(cell).textContent)];
    const text = new Map(rows.map((row) => [row, plain(words(row).join(" "))]));
    const find = document.getElementById("find");
    const chips = all(".chip");
    const show = () => {
      const wanted = plain(find.value);
      const chosen = chips.filter((chip) => chip.getAttribute("aria-pressed") === "true").map((chip) => chip.dataset.class);
      let left = 0;
      for (const row of rows) {
        const fits = text.get(row).includes(wanted) && (!chosen.length || chosen.includes(row.dataset.class));
        row.hidden = !fits;
        left += fits;
      }
      document.getElementById("nothing").hidden = left > 0;
    };
    find.addEventListener("input", show);
    for (const chip of chips) {
      chip.addEventListener("click", () => {
        chip.setAttribute("aria-pressed", String(chip.getAttribute("aria-pressed") !== "true"));
        show();
      });
    }
    for (const button of all("#slides thead button")) {
      button.addEventListener("click", () => {
        const head = button.closest("th");
        const before = head.getAttribute("aria-sort");
        const order = before ? (before === "ascending" ? "descending" : "ascending") : button.dataset.first || "ascending";
        all("#slides thead th").forEach((cell) => cell.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const key = button.dataset.sort;
        const compare = key === "slide"
          ? (a, b) => a.dataset.slide.localeCompare(b.dataset.slide, undefined, { numeric: true })
          : (a, b) => Number(a.dataset[key]) - Number(b.dataset[key]);
        const sign = order === "ascending" ? 1 : -1;
        rows.sort((a, b) => sign * compare(a, b) || Number(a.dataset.rank) - Number(b.dataset.rank));
        body.append(...rows);
      });
    }
  }

  const layer = document.getElementById("layer");
  if (!layer) return;
  for (const choice of all("input[name=map]")) {
    choice.addEventListener("change", () => {
      layer.src = choice.dataset.src;
      all(".legend").forEach((legend) => { legend.hidden = legend.dataset.layer !== choice.value; });
    });
  }
  const strength = document.getElementById("strength");
  strength.addEventListener("input", () => { layer.style.opacity = strength.value / 100; });
  const marks = document.getElementById("marks");
  marks.addEventListener("change", () => document.querySelector(".pair").classList.toggle("no-marks", !marks.checked));
  const large = document.getElementById("large");
  large.addEventListener("change", () => document.querySelector(".pair").classList.toggle("large", large.checked));

  for (const part of all("[data-tile]")) {
    const near = (on) => () => all(`[data-tile="${part.dataset.tile}"]`).forEach((one) => one.classList.toggle("near", on));
    part.addEventListener("pointerenter", near(true));
    part.addEventListener("pointerleave", near(false));
  }
  const views = all(".view");
  const dots = views.map((view) => {
    const dot = document.createElement("div");
    dot.className = "dot";
    dot.hidden = true;
    return view.appendChild(dot);
  });
  views.forEach((view, own) => {
    view.addEventListener("pointermove", (event) => {
      const box = view.getBoundingClientRect();
      dots.forEach((dot, other) => {
        dot.hidden = other === own;
        dot.style.left = `${100 * (event.clientX - box.left) / box.width}%`;
        dot.style.top = `${100 * (event.clientY - box.top) / box.height}%`;
      });
    });
    view.addEventListener("pointerleave", () => dots.forEach((dot) => { dot.hidden = true; }));
  });
})();
