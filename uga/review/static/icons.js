// The page's icons, drawn on a grid of 24 x 24.

const SVG = "http://www.w3.org/2000/svg";

const PATHS = {
  brush:
    "M20 3.5c-3.6 1.6-8 5.4-9.9 8.2l2.3 2.3c2.7-1.9 6.4-6.3 8-10zM9 12.6c-2 .1-3.2 1.3-3.4 3.2-.1 1.6-.9 2.6-2.1 3.2 2.7 1.3 7.4.8 7.7-3.2.1-1.3-.8-2.7-2.2-3.2z",
  eraser: "M14.5 4.5l5.5 5.5-9.5 9.5H7l-3.5-3.5zM9 10l5.5 5.5M12 19.5h8",
  polygon:
    "M5 17.5L7.5 6 17 4.5l2.5 9-7 6z M5 17.5m-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0M17 4.5m-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0M12.5 19.5m-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0",
  fill: "M10.5 4l7.5 7.5-6.5 6.5a2 2 0 0 1-2.8 0L4 13.3a2 2 0 0 1 0-2.8zM4 11.5h14M20 15.5c1 1.4 1.5 2.3 1.5 3a1.5 1.5 0 0 1-3 0c0-.7.5-1.6 1.5-3z",
  move: "M12 3v18M3 12h18M12 3l-2.5 2.5M12 3l2.5 2.5M12 21l-2.5-2.5M12 21l2.5-2.5M3 12l2.5-2.5M3 12l2.5 2.5M21 12l-2.5-2.5M21 12l-2.5 2.5",
  undo: "M8 5L4 9l4 4M4 9h10a5.5 5.5 0 0 1 0 11h-4",
  redo: "M16 5l4 4-4 4M20 9H10a5.5 5.5 0 0 0 0 11h4",
  previous: "M14.5 5l-7 7 7 7",
  next: "M9.5 5l7 7-7 7",
  back: "M20 12H5M11 5.5L4.5 12l6.5 6.5",
  check: "M4.5 12.5l5 5 10-11",
  skip: "M5 5.5l7 6.5-7 6.5zM13 5.5l7 6.5-7 6.5z",
  reopen: "M4.5 12a7.5 7.5 0 1 0 2.5-5.6M4.5 4v4.5H9",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  help: "M9 9.2a3 3 0 1 1 4.6 2.6c-1 .7-1.6 1.2-1.6 2.4M12 17.6v.3",
  panel: "M4 5h16v14H4zM14.5 5v14",
  download: "M12 4v11M7.5 10.5L12 15l4.5-4.5M5 19.5h14",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  person: "M12 12.5a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20c.8-3.5 3.8-5 7.5-5s6.7 1.5 7.5 5",
  pen: "M4 20l1-4L16.5 4.5l3 3L8 19z",
  flag: "M6 21V4h12l-2.5 4.5L18 13H6",
};

/** An icon; decoration only, so a control needs a label besides. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("focusable", "false");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}
