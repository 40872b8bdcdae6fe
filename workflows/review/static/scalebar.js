// A scale bar of a round length, as long as fits in `most_px` of the screen.

import { h } from "./dom.js";
import { lengthText } from "./words.js";

const MOST_PX = 150;

export class ScaleBar {
  constructor() {
    this.text = h("b");
    this.root = h("div", { class: "scalebar", role: "img" }, this.text);
  }

  show(umPerPx) {
    const um = roundLength(MOST_PX * umPerPx);
    this.root.style.width = `${um / umPerPx}px`;
    this.text.textContent = lengthText(um);
    this.root.setAttribute("aria-label", `Scale bar: ${lengthText(um)}`);
  }
}

// The longest of 1, 2, 5, 10 ... that is not above `most`; below 1 it goes on with 0.5, 0.2 ...
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const digit = [5, 2, 1].find((one) => one * power <= most * (1 + 1e-9)) ?? 1;
  return digit * power;
}
