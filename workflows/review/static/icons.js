// Line drawings for buttons, 20 x 20, drawn for this desk.

import { svg } from "./dom.js";

const PATHS = {
  pan: "M10 2v16M2 10h16M10 2l-2.2 2.4M10 2l2.2 2.4M10 18l-2.2-2.4M10 18l2.2-2.4M2 10l2.4-2.2M2 10l2.4 2.2M18 10l-2.4-2.2M18 10l-2.4 2.2",
  polygon: "M4 7l7-4 6 6-3 8-9-2z",
  rectangle: "M3.5 5h13v10h-13z",
  point: "M10 18s-5.2-5.2-5.2-9.2a5.2 5.2 0 0 1 10.4 0C15.200 12.800 10 18 10 18zM10 10.300a1.600 1.600 0 1 0 0-3.200 1.600 1.600 0 0 0 0 3.200z",
  rotate: "M15.800 6.500A7 7 0 1 0 17 10M16.500 2.800v4h-4",
  outline: "M5 4c3-2 7-1 9 2s3 6 0 9-8 2-10-1-2-8 1-10z",
  bad: "M4 4h12v12H4zM7 7l6 6M13 7l-6 6",
  tops: "M3 3h5v5H3zM12 3h5v5h-5zM3 12h5v5H3zM12 12h5v5h-5z",
  label: "M3 5h14v10H3zM6 8.500h5M6 11.500h8",
  compare: "M3 4h6v12H3zM11 4h6v12h-6z",
  lock: "M5 9h10v8H5zM7 9V6.500a3 3 0 0 1 6 0V9",
  next: "M8 4.500l5.500 5.500L8 15.500",
  previous: "M12 4.500L6.500 10l5.500 5.500",
  print: "M6 7V3h8v4M6 14H3.500V7.500h13V14H14M6 11.500h8V17H6z",
  close: "M5 5l10 10M15 5L5 15",
  remove: "M4 6h12M8 6V4h4v2M6 6l.7 10.500h6.600L14 6",
};

export function icon(name) {
  return svg("svg", { class: "icon", viewBox: "0 0 20 20", "aria-hidden": "true" }, svg("path", { d: PATHS[name] }));
}
