/* The page: reads each section's JSON, draws its figures, fills its tables, follows the colour scheme. */
"use strict";

(() => {
  const NAMES = ["page", "surface", "raised", "ink", "muted", "line", "faint", "accent", "danger", "grid"];

  function readTheme() {
    const style = getComputedStyle(document.documentElement);
    const theme = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    theme.dark = parseInt(theme.surface.slice(1, 3), 16) < 128;
    theme.font = style.getPropertyValue("--sans").trim();
    return theme;
  }

  /* A copy of a figure with the colours named `var(--name)` looked up. Only under keys that hold colours: a label may say anything. */
  function themed(value, theme, key) {
    if (typeof value === "string") {
      const name = /colors?$/i.test(key) && /^var\(--([a-z]+)\)$/.exec(value);
      return name ? theme[name[1]] : value;
    }
    if (Array.isArray(value)) return value.map((item) => themed(item, theme, key));
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, theme, k)]));
    return value;
  }

  function dressed(figure, theme) {
    const { data, layout } = themed(figure, theme, "");
    Object.assign(layout, {
      autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: theme.font, size: 12.5, color: theme.ink },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: theme.muted, activecolor: theme.ink },
      hoverlabel: { bgcolor: theme.surface, bordercolor: theme.faint, align: "left", font: { family: theme.font, size: 12.5, color: theme.ink } },
    });
    for (const key of Object.keys(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      const tickfont = { color: theme.muted, size: 12 };
      layout[key] = { gridcolor: theme.grid, linecolor: theme.faint, tickcolor: theme.faint, tickfont, ...layout[key] };
      if (layout[key].title) layout[key].title.font = { size: 12.5, color: theme.muted };
    }
    return { data, layout };
  }

  /* Plotly's button that sends a figure to its makers' cloud is taken away, and the address with it. */
  const CONFIG = {
    responsive: true, displaylogo: false, displayModeBar: "hover", showTips: false, plotlyServerURL: "", showSendToCloud: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"],
  };

  function show(kind, value) {
    if (value === null || value === undefined) return "–";
    if (kind === "percent") return `${(100 * value).toFixed(1)}\u00a0%`;
    if (kind.startsWith("fixed")) return value.toFixed(Number(kind.slice(5))).replace("-", "−");
    return kind === "number" ? formatNumber(value) : String(value);
  }

  const isText = (kind) => kind === "text" || kind === "note";
  const MOST_ROWS = 200;

  /* A table with sortable headings and, where the section has them, a filter and a choice of its first column. */
  function fillTable(section, name, { columns, rows }) {
    const table = section.querySelector(`[data-table="${name}"]`);
    const filter = section.querySelector(`[data-filter="${name}"]`);
    const chooser = section.querySelector(`[data-choose="${name}"]`);
    const count = section.querySelector(`[data-count="${name}"]`);
    if (!table) return;
    chooser?.append(...[...new Set(rows.map((row) => row[0]))].map((value) => element("option", { value, text: value })));
    const body = element("tbody");
    let sorted = null;
    const heads = columns.map((column, k) => element("th", { scope: "col", class: isText(column.kind) ? "" : "number", "aria-sort": "none" },
      element("button", { type: "button", class: "sortable", text: column.title, onclick: () => sortBy(k) })));
    function sortBy(k) {
      const falling = sorted && sorted.k === k ? !sorted.falling : !isText(columns[k].kind);
      sorted = { k, falling };
      heads.forEach((head, i) => head.setAttribute("aria-sort", i === k ? (falling ? "descending" : "ascending") : "none"));
      heads.forEach((head, i) => { head.firstChild.textContent = columns[i].title + (i === k ? (falling ? " ↓" : " ↑") : ""); });
      update();
    }
    function update() {
      const text = filter ? filter.value.trim().toLowerCase() : "";
      let kept = rows.filter((row) => (!chooser?.value || row[0] === chooser.value) && (!text || row.some((v, i) => isText(columns[i].kind) && String(v ?? "").toLowerCase().includes(text))));
      if (sorted) {
        const { k, falling } = sorted, sign = falling ? -1 : 1;
        const compare = isText(columns[k].kind) ? (a, b) => String(a[k]).localeCompare(String(b[k]), "en", { numeric: true })
          : (a, b) => (a[k] ?? -Infinity) - (b[k] ?? -Infinity);
        kept = [...kept].sort((a, b) => sign * compare(a, b));
      }
      body.replaceChildren(...kept.slice(0, MOST_ROWS).map((row) => element("tr", {}, ...row.map((value, i) =>
        element("td", { class: columns[i].kind === "text" ? "" : columns[i].kind === "note" ? "long" : "number", text: show(columns[i].kind, value) })))));
      if (count) count.textContent = `${Math.min(kept.length, MOST_ROWS).toLocaleString("en-US")} of ${kept.length.toLocaleString("en-US")} rows`;
    }
    table.append(element("thead", {}, element("tr", {}, ...heads)), body);
    filter?.addEventListener("input", update);
    chooser?.addEventListener("change", update);
    update();
  }

  function followSections() {
    const links = new Map([...document.querySelectorAll(".sidebar a")].map((a) => [a.hash.slice(1), a]));
    const sections = [...document.querySelectorAll("main section")];
    const mark = () => {
      const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 4;
      const passed = sections.filter((s) => s.getBoundingClientRect().top < window.innerHeight * 0.35);
      const current = atEnd ? sections[sections.length - 1] : passed[passed.length - 1] || sections[0];
      for (const [id, link] of links) {
        if (current && id === current.id) link.setAttribute("aria-current", "true");
        else link.removeAttribute("aria-current");
      }
    };
    window.addEventListener("scroll", mark, { passive: true });
    mark();
  }

  /* A choice between figures of the same place: the values of the select are keys of the payload's figures. */
  function followSwitch(section, place, all) {
    const select = section.querySelector(`[data-switch="${place.target.dataset.figure}"]`);
    select?.addEventListener("change", () => {
      place.figure = all[select.value];
      place.target.style.height = `${place.figure.layout.height}px`;
      const { data, layout } = dressed(place.figure, theme);
      Plotly.react(place.target, data, layout, CONFIG);
    });
  }

  let theme = readTheme();
  const explorers = [], figures = [];
  for (const section of document.querySelectorAll("main section")) {
    const script = section.querySelector("script.payload");
    if (!script) continue;
    const payload = JSON.parse(script.textContent);
    const place = section.querySelector("[data-explorer]");
    if (place && payload.explorer) explorers.push(new Explorer(place, payload.explorer, theme));
    for (const [name, table] of Object.entries(payload.tables || {})) fillTable(section, name, table);
    for (const target of section.querySelectorAll(".plot[data-figure]")) {
      const figure = (payload.figures || {})[target.dataset.figure];
      if (figure) {
        // The place is taken before the figure is drawn, so that nothing jumps.
        target.style.height = `${figure.layout.height}px`;
        figures.push({ target, figure });
        followSwitch(section, figures[figures.length - 1], payload.figures);
      }
    }
  }

  function retheme() {
    theme = readTheme();
    for (const explorer of explorers) explorer.retheme(theme);
    for (const { target, figure } of figures) {
      const { data, layout } = dressed(figure, theme);
      Plotly.react(target, data, layout, CONFIG);
    }
  }

  followSections();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
  window.addEventListener("beforeprint", () => {
    document.documentElement.dataset.theme = "light";
    for (const details of document.querySelectorAll("details")) details.open = true;
    retheme();
  });
  window.addEventListener("afterprint", () => {
    delete document.documentElement.dataset.theme;
    retheme();
  });

  // One figure per turn of the event loop: the page can be read while they appear.
  (function next(i) {
    if (i === figures.length) {
      document.documentElement.dataset.ready = "yes";
      return;
    }
    const { target, figure } = figures[i];
    const { data, layout } = dressed(figure, theme);
    Plotly.newPlot(target, data, layout, CONFIG).then(() => setTimeout(next, 0, i + 1));
  })(0);
})();
