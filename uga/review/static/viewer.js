// The slide under the patch: OpenSeadragon, its viewport in pixels of the patch.
//
// OpenSeadragon's own coordinates are scaled so that the patch is the square from (0, 0) to (1, 1).

import { tileAddress, imageAddress } from "./api.js";

const SCRIPT = "/static/vendor/openseadragon/openseadragon.min.js";
const LARGEST_ZOOM = 24;
const FIT_MARGIN = 0.06;
const JUMP_S = 0.25;

let loading = null;

/** OpenSeadragon, loaded once. */
export function loadOpenSeadragon() {
  loading ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = SCRIPT;
    script.addEventListener("load", () => resolve(globalThis.OpenSeadragon));
    script.addEventListener("error", reject);
    document.head.append(script);
  });
  return loading;
}

export class SlideViewer {
  /**
   * Makes a viewer in an element; resolves when the whole patch is shown.
   * @param map the element that shows the whole slide
   * @param onMove called with `place` within the frame in which the slide moves
   */
  static async in(element, map, patch, onMove) {
    const OpenSeadragon = await loadOpenSeadragon();
    const made = new SlideViewer(OpenSeadragon, element, map, patch, onMove);
    await new Promise((resolve, reject) => {
      made.viewer.addOnceHandler("open", resolve);
      made.viewer.addOnceHandler("open-failed", (event) => reject(new Error(event.message)));
    });
    return made;
  }

  constructor(OpenSeadragon, element, map, patch, onMove) {
    this.size = patch.size_px;
    this.element = element;
    this.Point = OpenSeadragon.Point;
    this.Rect = OpenSeadragon.Rect;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.viewer = OpenSeadragon({
      element,
      drawer: "canvas",
      showNavigationControl: false,
      showNavigator: Boolean(patch.tiles),
      navigatorElement: map,
      navigatorAutoFade: false,
      navigatorDisplayRegionColor: "#0b4f7d",
      mouseNavEnabled: false,
      keyboardNavEnabled: false,
      tabIndex: "",
      visibilityRatio: 0.5,
      maxZoomPixelRatio: Infinity,
      minZoomImageRatio: 0.9,
      animationTime: still ? 0 : JUMP_S,
      springStiffness: 8,
      blendTime: 0,
      immediateRender: true,
      crossOriginPolicy: false,
      loadTilesWithAjax: false,
      imageLoaderLimit: 4,
      preserveImageSizeOnResize: true,
      tileSources: [this.#picture(patch), ...this.#slide(patch)],
    });
    this.viewer.addHandler("open", () => {
      this.viewer.viewport.maxZoomLevel = this.#zoomOf(LARGEST_ZOOM);
      this.fit(true);
      onMove(this.place);
    });
    for (const event of ["update-viewport", "resize"])
      this.viewer.addHandler(event, () => this.isOpen && onMove(this.place));
  }

  destroy() {
    this.viewer.destroy();
  }

  get isOpen() {
    return this.viewer.isOpen();
  }

  /** To be called when the element of the whole slide has got a size. */
  refreshMap() {
    this.viewer.navigator?.updateSize();
  }

  /** {x, y} of the patch's corner in the element, and CSS pixels per pixel of the patch. */
  get place() {
    const { viewport } = this.viewer;
    const corner = viewport.pixelFromPoint(new this.Point(0, 0), true);
    const end = viewport.pixelFromPoint(new this.Point(1, 0), true);
    return { x: corner.x, y: corner.y, scale: (end.x - corner.x) / this.size };
  }

  /** A point of the window in pixels of the patch. */
  toPatch(clientX, clientY) {
    const box = this.element.getBoundingClientRect();
    const { x, y, scale } = this.place;
    return { x: (clientX - box.left - x) / scale, y: (clientY - box.top - y) / scale };
  }

  panBy(dx, dy) {
    const { viewport } = this.viewer;
    viewport.panBy(viewport.deltaPointsFromPixels(new this.Point(dx, dy), true), true);
    viewport.applyConstraints(true);
  }

  /** Zooms about a point of the window, the middle by default. */
  zoomBy(factor, clientX = null, clientY = null) {
    const { viewport } = this.viewer;
    const box = this.element.getBoundingClientRect();
    const center = viewport.getCenter(true);
    const about =
      clientX === null ? center : viewport.pointFromPixel(new this.Point(clientX - box.left, clientY - box.top), true);
    const before = viewport.getZoom(true);
    const zoom = Math.min(viewport.getMaxZoom(), Math.max(viewport.getMinZoom(), before * factor));
    // OpenSeadragon's own zooming about a point loses it where two movements fall into one frame.
    viewport.zoomTo(zoom, null, true);
    viewport.panTo(about.plus(center.minus(about).times(before / zoom)), true);
    viewport.applyConstraints(true);
  }

  /** Shows the whole patch. */
  fit(immediately = false) {
    const margin = FIT_MARGIN;
    this.viewer.viewport.fitBounds(new this.Rect(-margin, -margin, 1 + 2 * margin, 1 + 2 * margin), immediately);
  }

  /** Shows a rectangle of the patch, with some of what is around it, no larger than `largest` CSS pixels per pixel. */
  show({ x, y, width, height }, largest) {
    const { viewport } = this.viewer;
    const container = viewport.getContainerSize();
    const room = 1.6;
    const w = Math.max(width * room, container.x / largest) / this.size;
    const h = Math.max(height * room, container.y / largest) / this.size;
    const center = { x: (x + width / 2) / this.size, y: (y + height / 2) / this.size };
    viewport.fitBounds(new this.Rect(center.x - w / 2, center.y - h / 2, w, h), false);
  }

  /** Ends a movement at once, so that what is painted lies where it was pointed at. */
  settle() {
    const { viewport } = this.viewer;
    viewport.zoomTo(viewport.getZoom(true), null, true);
    viewport.panTo(viewport.getCenter(true), true);
  }

  #zoomOf(scale) {
    return (scale * this.size) / this.viewer.viewport.getContainerSize().x;
  }

  /** The patch's own picture: there at once, and all there is where the slide is not. */
  #picture(patch) {
    return {
      tileSource: { type: "image", url: imageAddress(patch.id, patch.image_stamp), buildPyramid: false },
      x: 0,
      y: 0,
      width: 1,
    };
  }

  #slide(patch) {
    if (!patch.tiles) return [];
    const { width, height, tile_px: tileSize, overlap_px: tileOverlap, stamp } = patch.tiles;
    const { x, y, scale_x: scaleX, scale_y: scaleY } = patch.grid;
    // OpenSeadragon scales both sides alike. Where a slide's pixels are not quite squares, that is half a pixel at most at
    // the patch's edges if its middle lies where it belongs, but many of them far down a slide if its corner does.
    const half = this.size / 2;
    const top = half - ((y + half) * scaleY) / scaleX;
    const source = {
      width,
      height,
      tileSize,
      tileOverlap,
      minLevel: 8,
      getTileUrl: (level, column, row) => tileAddress(patch.id, stamp, level, column, row),
    };
    return [{ tileSource: source, x: -x / this.size, y: top / this.size, width: width / scaleX / this.size }];
  }
}
