// From a value on a legend's scale (0..255) to a colour over the tissue. What is low, or near zero where there is a sign,
// is nearly clear, so that the tissue stays visible; what is under the threshold is clear.

const FAINTEST = 0.2;

// How much a value says, 0..1: its place on the scale, or its distance from the middle where there is a sign.
export function strength(index, diverging) {
  const place = index / 255;
  return diverging ? Math.abs(2 * place - 1) : place;
}

// 256 colours as the bytes of an ImageData read them (R, G, B, A), one Uint32 each.
export function heatTable(legend, { opacity, threshold }) {
  const bytes = new Uint8ClampedArray(4 * 256);
  legend.stops.forEach(([, colour], index) => {
    const rgb = parseInt(colour.slice(1), 16);
    const says = strength(index, legend.diverging);
    const shown = threshold <= 0 || says >= threshold;
    const alpha = shown ? Math.min(1, opacity * (FAINTEST + (1 - FAINTEST) * says)) : 0;
    bytes.set([rgb >> 16, (rgb >> 8) & 255, rgb & 255, Math.round(255 * alpha)], 4 * index);
  });
  return new Uint32Array(bytes.buffer);
}

// The value at a threshold in the legend's unit; where there is a sign, that of the side which speaks for the class.
export function thresholdValue(legend, threshold) {
  const place = legend.diverging ? (1 + threshold) / 2 : threshold;
  return legend.stops[Math.round(255 * place)][0];
}

// Paint grey values (n) with alpha (n) into RGBA pixels (n).
export function paint(pixels, grey, shown, table) {
  for (let at = 0; at < grey.length; at += 1) pixels[at] = shown[at] ? table[grey[at]] : 0;
}
