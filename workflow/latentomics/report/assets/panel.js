/* One panel of an embedding.
 *
 * Drawn on a plain canvas: plotly's WebGL scatter needs `unsafe-eval`, which the page's content security policy refuses,
 * and its SVG scatter takes seconds per change of colour at 20,000 points in six panels.
 */
"use strict";

const ICONS = {
  in: "M8 3v10M3 8h10",
  out: "M3 8h10",
  enlarge: "M9.5 2.5h4v4M13 3L9 7M6.5 13.5h-4v-4M3 13l4-4",
  save: "M8 2.5v7.5M4.8 7L8 10.2 11.2 7M3 13.2h10",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [k, v] of Object.entries({ viewBox: "0 0 16 16", width: 15, height: 15, "aria-hidden": "true" })) svg.setAttribute(k, v);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [k, v] of Object.entries({ d: ICONS[name], fill: "none", stroke: "currentColor", "stroke-width": 1.6, "stroke-linecap": "round" })) path.setAttribute(k, v);
  svg.append(path);
  return svg;
}

/* One canvas with its own view (centre and pixels per unit). `host` supplies points' colours and order. */
class Panel {
  constructor(host, spec) {
    this.host = host;
    this.method = spec.method;
    this.layout = spec.layout;
    this.x = decodeArray(spec.x);
    this.y = decodeArray(spec.y);
    this.bounds = this.measure();
    this.ring = -1;
    const name = `${host.data.layouts.get(spec.layout)} of ${host.data.methods[spec.method]}`;
    this.canvas = element("canvas", { tabindex: 0, role: "img", "aria-label": `${name}. Keys: plus and minus zoom, arrows move, 0 resets.` });
    const button = (kind, label, act) => {
      const made = element("button", { type: "button", title: label, "aria-label": `${label}: ${name}`, onclick: act });
      made.append(icon(kind));
      return made;
    };
    this.enlargeButton = button("enlarge", "Enlarge", () => host.enlarge(this));
    const heading = element("h4", { text: host.data.layouts.get(spec.layout) }, element("span", { text: ` of ${host.data.methods[spec.method]}` }));
    this.element = element("div", { class: "panel", "data-method": spec.method, "data-layout": spec.layout },
      element("header", {}, heading, element("div", { class: "tools" },
        button("in", "Zoom in", () => this.zoom(1.5)), button("out", "Zoom out", () => this.zoom(1 / 1.5)),
        button("save", "Save as PNG", () => this.save()), this.enlargeButton)),
      this.canvas);
    this.reset();
    this.listen();
  }

  measure() {
    const box = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < this.x.length; i++) {
      const x = this.x[i], y = this.y[i];
      if (!(Number.isFinite(x) && Number.isFinite(y))) continue;
      if (x < box[0]) box[0] = x;
      if (y < box[1]) box[1] = y;
      if (x > box[2]) box[2] = x;
      if (y > box[3]) box[3] = y;
    }
    return box[0] <= box[2] ? box : [0, 0, 1, 1];
  }

  reset() {
    const [x0, y0, x1, y1] = this.bounds;
    this.view = { x: (x0 + x1) / 2, y: (y0 + y1) / 2, zoom: 1 };
  }

  /* Pixels (CSS) per unit: the whole picture fits at zoom 1, with the same scale on both axes. */
  get scale() {
    const [x0, y0, x1, y1] = this.bounds;
    return 0.93 * this.view.zoom * Math.min(this.width / (x1 - x0 || 1), this.height / (y1 - y0 || 1));
  }

  zoom(factor, px, py) {
    const zoom = Math.min(Math.max(this.view.zoom * factor, 0.5), 200);
    if (px !== undefined) {
      // The point under the pointer stays where it is.
      const before = this.toData(px, py);
      this.view.zoom = zoom;
      const after = this.toData(px, py);
      this.view.x += before[0] - after[0];
      this.view.y += before[1] - after[1];
    } else this.view.zoom = zoom;
    this.host.schedule(this);
  }

  toData(px, py) {
    return [this.view.x + (px - this.width / 2) / this.scale, this.view.y - (py - this.height / 2) / this.scale];
  }

  nearest(px, py, reach) {
    const [x, y] = this.toData(px, py);
    let best = -1, least = (reach / this.scale) ** 2;
    for (let i = 0; i < this.x.length; i++) {
      const d = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
      if (d < least && this.host.isLit(this, i)) { least = d; best = i; }
    }
    return best;
  }

  listen() {
    const canvas = this.canvas;
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.clientX, y: event.clientY };
      canvas.setPointerCapture(event.pointerId);
      canvas.classList.add("dragging");
      this.host.point(null, -1);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (drag) {
        this.view.x -= (event.clientX - drag.x) / this.scale;
        this.view.y += (event.clientY - drag.y) / this.scale;
        drag = { x: event.clientX, y: event.clientY };
        this.host.schedule(this);
        return;
      }
      const box = canvas.getBoundingClientRect();
      this.host.point(this, this.nearest(event.clientX - box.left, event.clientY - box.top, 9), event);
    });
    const stop = () => { drag = null; canvas.classList.remove("dragging"); };
    canvas.addEventListener("pointerup", stop);
    canvas.addEventListener("pointercancel", stop);
    canvas.addEventListener("pointerleave", () => { if (!drag) this.host.point(null, -1); });
    canvas.addEventListener("dblclick", () => { this.reset(); this.host.schedule(this); });
    canvas.addEventListener("wheel", (event) => {
      // A plain wheel scrolls the page; an enlarged panel has the page to itself.
      if (!(event.ctrlKey || event.metaKey || this.host.large === this)) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY * 0.002), event.clientX - box.left, event.clientY - box.top);
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const step = 40 / this.scale;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
      if (event.key === "+" || event.key === "=") this.zoom(1.3);
      else if (event.key === "-") this.zoom(1 / 1.3);
      else if (event.key === "0") this.reset();
      else if (event.key === "Escape" && this.host.large) return this.host.enlarge(this.host.large);
      else if (moves[event.key]) { this.view.x += moves[event.key][0]; this.view.y += moves[event.key][1]; }
      else return;
      event.preventDefault();
      this.host.schedule(this);
    });
  }

  save() {
    this.canvas.toBlob((blob) => {
      const address = URL.createObjectURL(blob);
      element("a", { href: address, download: `${this.layout}-${this.method}.png`.replace(/[^\w.-]/g, "_") }).click();
      setTimeout(() => URL.revokeObjectURL(address), 1000);
    });
  }

  draw() {
    const { host, canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    if (!this.width) return;
    const w = Math.round(this.width * ratio), h = Math.round(this.height * ratio);
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = host.theme.raised;
    context.fillRect(0, 0, w, h);
    const paint = host.paint(this);
    const scale = this.scale * ratio, radius = host.radius(this) * ratio;
    const sprites = paint.colours.map((colour) => dot(colour, radius));
    const half = sprites.length ? sprites[0].width / 2 : 0;
    const dx = w / 2 - this.view.x * scale, dy = h / 2 + this.view.y * scale;
    for (const lit of host.lit.size ? [false, true] : [true]) {
      context.globalAlpha = lit ? host.alpha : 0.3;
      const quiet = lit ? null : dot(host.theme.faint, radius);
      for (let k = 0; k < paint.order.length; k++) {
        const i = paint.order[k];
        if (host.lit.size && host.lit.has(paint.slots[i]) !== lit) continue;
        const px = this.x[i] * scale + dx, py = dy - this.y[i] * scale;
        if (!(px > -half && px < w + half && py > -half && py < h + half)) continue;
        context.drawImage(quiet || sprites[paint.slots[i]], px - half, py - half);
      }
    }
    context.globalAlpha = 1;
    if (host.named && paint.names) this.drawNames(context, paint, ratio, scale, dx, dy);
    if (this.ring >= 0) {
      context.beginPath();
      context.arc(this.x[this.ring] * scale + dx, dy - this.y[this.ring] * scale, Math.max(radius, 2 * ratio) + 4 * ratio, 0, 2 * Math.PI);
      context.lineWidth = 2.2 * ratio;
      context.strokeStyle = host.theme.ink;
      context.stroke();
    }
  }

  /* Names stay inside the panel, and one that would cover another moves up or down while there is room near its group. */
  drawNames(context, paint, ratio, scale, dx, dy) {
    const high = 14 * ratio, placed = [];
    context.font = `600 ${11.5 * ratio}px ${fontFamily()}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 3.5 * ratio;
    for (const { text, x, y, slot } of this.centres(paint)) {
      if (this.host.lit.size && !this.host.lit.has(slot)) continue;
      const half = context.measureText(text).width / 2 + 3 * ratio;
      let px = x * scale + dx, py = dy - y * scale;
      if (px < 0 || px > this.canvas.width || py < 0 || py > this.canvas.height) continue;
      px = Math.min(Math.max(px, half), this.canvas.width - half);
      const free = (at) => placed.every((p) => Math.abs(p.x - px) > p.half + half || Math.abs(p.y - at) > high);
      py = [0, -1, 1, -2, 2].map((k) => py + k * high).find(free) ?? py;
      placed.push({ x: px, y: py, half });
      context.strokeStyle = this.host.theme.raised;
      context.strokeText(text, px, py);
      context.fillStyle = this.host.theme.ink;
      context.fillText(text, px, py);
    }
  }

  /* Median place of every named group. */
  centres(paint) {
    if (this.centred === paint) return this.centredNames;
    const members = new Map();
    for (let i = 0; i < this.x.length; i++) {
      const name = paint.names[i];
      if (name === null || !Number.isFinite(this.x[i])) continue;
      if (!members.has(name)) members.set(name, []);
      members.get(name).push(i);
    }
    const median = (list, values) => list.map((i) => values[i]).sort((a, b) => a - b)[list.length >> 1];
    this.centred = paint;
    this.centredNames = [...members].sort((a, b) => b[1].length - a[1].length).map(([name, list]) => ({
      text: name.length > 26 ? name.slice(0, 25) + "…" : name, x: median(list, this.x), y: median(list, this.y), slot: paint.slots[list[0]],
    }));
    return this.centredNames;
  }
}

function fontFamily() {
  return getComputedStyle(document.body).fontFamily;
}

const dots = new Map();
function dot(colour, radius) {
  const key = `${colour} ${radius}`;
  if (!dots.has(key)) {
    if (dots.size > 2000) dots.clear();
    const size = 2 * Math.ceil(radius + 1);
    const canvas = element("canvas", { width: size, height: size });
    const context = canvas.getContext("2d");
    context.beginPath();
    context.arc(size / 2, size / 2, radius, 0, 2 * Math.PI);
    context.fillStyle = colour;
    context.fill();
    dots.set(key, canvas);
  }
  return dots.get(key);
}
