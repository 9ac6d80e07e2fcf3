/* The embedding panels of an assay with their controls and legend: what is coloured by what. */
"use strict";

/* Colours of a numeric scale. */
const STEPS = 64;

class Explorer {
  constructor(root, data, theme) {
    // A list in the page, because JSON objects there are sorted by key.
    data.layouts = new Map(data.layouts);
    Object.assign(this, { root, data, theme, lit: new Set(), large: null, named: true, waiting: new Set(), painted: new Map() });
    this.n = data.ids.length;
    this.shuffle = shuffledIndex(this.n, data.seed);
    this.part = (role) => root.querySelector(`[data-role="${role}"]`);
    for (const c of Object.values(data.clusters)) c.values = decodeArray(c.codes);
    for (const column of data.columns) column.values = decodeArray(column.codes || column.values);
    this.panels = data.panels.map((spec) => new Panel(this, spec));
    const grid = this.part("panels");
    grid.style.setProperty("--n-columns", data.order.length);
    for (const panel of this.panels) {
      panel.element.style.order = [...data.layouts.keys()].indexOf(panel.layout);
      grid.append(panel.element);
    }
    this.controls();
    this.sized = new ResizeObserver(() => this.scheduleAll());
    for (const panel of this.panels) this.sized.observe(panel.canvas);
    this.choose(this.part("column").value);
  }

  controls() {
    const { data } = this;
    const select = this.part("column");
    const group = (label, options) => {
      if (options.length) select.append(element("optgroup", { label }, ...options.map(([value, text]) => element("option", { value, text }))));
    };
    const clustered = data.order.filter((m) => data.clusters[m]);
    const own = clustered.length ? [["cluster", "Cluster (each panel its own)"]] : [];
    group("Clusters", own.concat(clustered.map((m) => [`cluster:${m}`, `Clusters of ${data.methods[m]}`])));
    const columns = data.columns.map((c, i) => [`column:${i}`, c.title, c.kind]);
    group("Groups", columns.filter((c) => c[2] === "categorical"));
    group("Measurements", columns.filter((c) => c[2] === "numeric"));
    select.addEventListener("change", () => { this.part("feature").value = ""; this.choose(select.value); });
    const features = data.features.names;
    this.part("feature-box").hidden = !features.length;
    const list = this.root.querySelector("datalist");
    list.append(...[...features].sort().map((name) => element("option", { value: name })));
    const input = this.part("feature");
    const find = () => {
      const text = input.value.trim();
      if (!text) return this.choose(select.value);
      let j = features.indexOf(text);
      if (j < 0) j = features.findIndex((name) => name.toLowerCase() === text.toLowerCase());
      if (j >= 0) this.choose(`feature:${j}`);
      else this.say(`No ${data.nouns.feature} of the marker list is called “${text}”.`);
    };
    input.addEventListener("input", () => { if (features.includes(input.value) || !input.value) find(); });
    input.addEventListener("change", find);
    const size = this.part("size");
    size.value = this.n > 30000 ? 2 : this.n > 8000 ? 3 : this.n > 2000 ? 4.5 : this.n > 300 ? 6 : this.n > 100 ? 8 : 11;
    size.addEventListener("input", () => this.scheduleAll());
    this.part("names").addEventListener("change", (event) => { this.named = event.target.checked; this.scheduleAll(); });
    this.part("reset").addEventListener("click", () => {
      for (const panel of this.panels) panel.reset();
      this.lit.clear();
      if (this.large) this.enlarge(this.large);
      this.legend();
      this.scheduleAll();
    });
  }

  say(text) { this.part("status").textContent = text; }

  radius(panel) { return (Number(this.part("size").value) / 2) * (this.large ? 1.5 : 1) * Math.min(panel.view.zoom ** 0.35, 3); }
  get alpha() { return this.n > 8000 ? 0.75 : 0.85; }

  choose(mode) {
    const [kind, which] = [mode.split(":")[0], mode.slice(mode.indexOf(":") + 1)];
    this.mode = { kind: mode === "cluster" ? "own" : kind, which };
    this.lit.clear();
    this.painted.clear();
    const names = this.mode.kind === "own" || this.mode.kind === "cluster" || (kind === "column" && /label|type|cluster/i.test(this.data.columns[which].name));
    this.part("names").checked = this.named = names;
    this.part("names").disabled = kind === "feature" || (kind === "column" && this.data.columns[which].kind === "numeric");
    this.legend();
    this.scheduleAll();
  }

  /* Slot (index of the colour), drawing order and names of the points of a panel. */
  paint(panel) {
    const key = this.mode.kind === "own" ? panel.method : "";
    if (!this.painted.has(key)) this.painted.set(key, this.makePaint(panel.method));
    return this.painted.get(key);
  }

  makePaint(method) {
    const { kind, which } = this.mode;
    if (kind === "feature") return this.numericPaint(this.featureValues(Number(which)), { floor: this.data.features.zeros });
    if (kind === "column") {
      const column = this.data.columns[Number(which)];
      return column.kind === "numeric" ? this.numericPaint(column.values, { log: column.log }) : this.categoryPaint(column);
    }
    const clusters = this.data.clusters[kind === "own" ? method : which];
    return clusters ? this.categoryPaint(clusters) : this.categoryPaint({ levels: [], values: new Uint8Array(this.n) });
  }

  categoryPaint({ levels, values, colours }) {
    const slotOf = levels.map((_, i) => (colours ? colours[i] : i));
    const missing = Math.max(-1, ...slotOf) + 1;
    const palette = this.data.palette;
    const shown = Array.from({ length: missing }, (_, i) => palette[i % palette.length]).concat(this.theme.faint);
    const slots = new Uint16Array(this.n), names = new Array(this.n);
    for (let i = 0; i < this.n; i++) {
      const known = values[i] < levels.length;
      slots[i] = known ? slotOf[values[i]] : missing;
      names[i] = known ? levels[values[i]] : null;
    }
    return { colours: shown, slots, names, order: this.shuffle, missing };
  }

  numericPaint(values, { log = false, floor = false }) {
    const finite = Array.from(values).filter(Number.isFinite).sort((a, b) => a - b);
    // Columns are cut at the 1st and 99th percentile: one odd observation would leave all others one colour.
    const at = (q) => finite[Math.round(q * (finite.length - 1))];
    const low = floor ? 0 : at(0.01) ?? 0, high = (floor ? at(1) : at(0.99)) ?? 1;
    const bend = (v) => (log ? Math.log(v) : v);
    const span = bend(high) - bend(low) || 1;
    const slots = new Uint16Array(this.n);
    for (let i = 0; i < this.n; i++) {
      const v = values[i];
      // Not measured, or (expression) not detected, is a colour of its own.
      if (!Number.isFinite(v) || (floor && v === 0)) slots[i] = STEPS;
      else slots[i] = Math.round((STEPS - 1) * Math.min(Math.max((bend(v) - bend(low)) / span, 0), 1));
    }
    const rank = Float64Array.from(slots, (s) => (s === STEPS ? -1 : s));
    const order = Uint32Array.from(this.shuffle).sort((a, b) => rank[a] - rank[b]);
    const colours = scaleColours(this.data.scale, STEPS, this.theme.dark ? 0.14 : 0).concat(this.theme.faint);
    return { colours, slots, names: null, order, low, high, clipped: !floor && (low > finite[0] || high < finite[finite.length - 1]), log, floor };
  }

  featureValues(j) {
    this.bytes ||= decodeBytes(this.data.features.bytes);
    const { low, step } = this.featureScale(j);
    return Float32Array.from(this.bytes.subarray(j * this.n, (j + 1) * this.n), (b) => low + b * step);
  }

  isLit(panel, i) { return !this.lit.size || this.lit.has(this.paint(panel).slots[i]); }

  title() {
    const { kind, which } = this.mode;
    if (kind === "feature") return this.data.features.names[which];
    if (kind === "column") return this.data.columns[which].title;
    return kind === "own" ? "cluster" : `cluster of ${this.data.methods[which]}`;
  }

  legend() {
    const { kind, which } = this.mode, box = this.part("legend");
    box.replaceChildren();
    const drawn = `${this.n.toLocaleString("en-US")} ${this.data.nouns.observations} drawn`;
    const paint = this.paint(this.panels[0]);
    if (paint.names === null) {
      this.numericLegend(box, paint);
      const { value, scale } = this.data.nouns;
      const measured = kind === "feature" ? `the ${value} of ${this.title()} (${scale})` : this.title();
      const detected = paint.floor ? this.n - paint.slots.reduce((n, s) => n + (s === STEPS), 0) : null;
      this.say(detected === null ? `Coloured by ${measured}; ${drawn}.`
        : `Coloured by ${measured}, detected in ${((100 * detected) / this.n).toFixed(1)} % of the ${drawn}.`);
      return;
    }
    this.say(`Coloured by ${this.title()}; ${drawn}. Click a legend entry to single it out.`);
    const sources = kind === "own" ? this.data.order.filter((m) => this.data.clusters[m]).map((m) => [this.data.methods[m], this.data.clusters[m]])
      : [[this.title(), kind === "cluster" ? this.data.clusters[which] : this.data.columns[which]]];
    for (const [title, source] of sources) {
      const items = source.levels.map((level, i) => {
        const slot = source.colours ? source.colours[i] : i;
        const swatch = element("span", { class: "swatch" });
        swatch.style.background = this.data.palette[slot % this.data.palette.length];
        return element("li", {}, element("button", { type: "button", title: `${level}: ${source.counts[i].toLocaleString("en-US")} ${this.data.nouns.observations}`, "aria-pressed": String(this.lit.has(slot)), "data-slot": slot, onclick: () => this.toggle(slot) },
          swatch, element("span", { class: "text", text: level }), element("span", { class: "count", text: source.counts[i].toLocaleString("en-US") })));
      });
      // Two columns where names and counts are short enough for half the width.
      const short = source.levels.every((level) => level.length < 4) && source.counts.every((count) => count < 1e4);
      box.append(element("h4", { text: title }), element("ul", { class: short ? "short" : "" }, ...items));
    }
  }

  numericLegend(box, paint) {
    const bar = element("canvas", { width: STEPS, height: 1, "aria-hidden": "true" });
    const context = bar.getContext("2d");
    paint.colours.slice(0, STEPS).forEach((colour, i) => { context.fillStyle = colour; context.fillRect(i, 0, 1, 1); });
    const ends = [(paint.clipped ? "≤ " : "") + formatNumber(paint.low), (paint.clipped ? "≥ " : "") + formatNumber(paint.high)];
    box.append(element("h4", { text: this.title() }), bar, element("div", { class: "ends" }, ...ends.map((text) => element("span", { text }))));
    const about = paint.floor ? "Grey: not detected." : paint.log ? "Colours spread over the logarithm." : "";
    if (about) box.append(element("p", { class: "quiet", text: about }));
  }

  toggle(slot) {
    if (!this.lit.delete(slot)) this.lit.add(slot);
    for (const button of this.part("legend").querySelectorAll("[data-slot]")) button.setAttribute("aria-pressed", String(this.lit.has(Number(button.dataset.slot))));
    this.scheduleAll();
  }

  enlarge(panel) {
    this.large = this.large === panel ? null : panel;
    this.part("panels").classList.toggle("single", this.large !== null);
    for (const each of this.panels) {
      each.element.classList.toggle("large", each === this.large);
      each.enlargeButton.title = each === this.large ? "Back to all panels" : "Enlarge";
    }
    this.scheduleAll();
  }

  /* Ring the observation in every panel and describe it beside the pointer. */
  point(panel, i, event) {
    const tip = this.part("tooltip");
    for (const each of this.panels) {
      if (each.ring !== i) { each.ring = i; this.schedule(each); }
    }
    tip.hidden = i < 0;
    if (i < 0) return;
    const rows = this.data.hover.map((name) => this.data.columns.find((c) => c.name === name)).map((c) => [c.title, this.text(c, i)]);
    for (const m of this.data.order) {
      const c = this.data.clusters[m];
      if (c && (m === panel.method || this.mode.which === m)) rows.push([`cluster of ${this.data.methods[m]}`, c.levels[c.values[i]] ?? "–"]);
    }
    const { kind, which } = this.mode;
    if (kind === "feature") rows.push([this.title(), formatNumber(this.featureValue(Number(which), i))]);
    else if (kind === "column" && !this.data.hover.includes(this.data.columns[which].name)) rows.push([this.title(), this.text(this.data.columns[which], i)]);
    tip.replaceChildren(element("b", { text: this.data.ids[i] }), ...rows.map(([k, v]) => element("div", {}, element("span", { text: k }), element("span", { text: v }))));
    const box = tip.getBoundingClientRect();
    const flip = event.clientX + 18 + box.width > window.innerWidth;
    tip.style.left = `${flip ? event.clientX - box.width - 14 : event.clientX + 16}px`;
    tip.style.top = `${Math.min(event.clientY + 14, window.innerHeight - box.height - 8)}px`;
  }

  featureScale(j) { const { lows, tops } = this.data.features; return { low: lows[j], step: (tops[j] - lows[j]) / 255 }; }
  featureValue(j, i) { const { low, step } = this.featureScale(j); return low + this.bytes[j * this.n + i] * step; }
  text(column, i) { return column.kind === "numeric" ? formatNumber(column.values[i]) : column.levels[column.values[i]] ?? "–"; }

  schedule(panel) {
    if (!this.waiting.size) requestAnimationFrame(() => { for (const each of this.waiting) each.draw(); this.waiting.clear(); });
    this.waiting.add(panel);
  }
  scheduleAll() { for (const panel of this.panels) this.schedule(panel); }

  /* Draw at once in new colours (the page's scheme changed, or it is about to be printed). */
  retheme(theme) {
    this.theme = theme;
    this.painted.clear();
    for (const panel of this.panels) panel.draw();
    this.legend();
  }
}
