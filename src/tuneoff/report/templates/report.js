"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll("[data-plot]")];
  const chosen = {};
  const config = {
    displaylogo: false,
    responsive: true,
    displayModeBar: false,
    showTips: false,
    locale: "en",
  };

  // Colours are read from the page's custom properties, so that plots follow the theme.
  const palette = () => {
    const style = getComputedStyle(document.documentElement);
    const known = new Map();
    return (name, opacity) => {
      if (!known.has(name)) known.set(name, style.getPropertyValue("--" + name).trim());
      const hex = known.get(name);
      if (opacity === undefined) return hex;
      const part = (at) => parseInt(hex.slice(at, at + 2), 16);
      return `rgba(${part(1)},${part(3)},${part(5)},${opacity})`;
    };
  };
  const resolve = (value, colour) => {
    if (Array.isArray(value)) return value.map((item) => resolve(item, colour));
    if (value === null || typeof value !== "object") return value;
    if (value.$c) return colour(value.$c, value.a);
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolve(v, colour)]));
  };

  const draw = (element) => {
    const figure = figures[element.dataset.plot];
    const choice = chosen[element.dataset.plot];
    const data = figure.variants ? figure.variants[choice ?? 0] : figure.data;
    const colour = palette();
    const layout = resolve(figure.layout, colour);
    layout.font.family = getComputedStyle(document.body).fontFamily;
    layout.height = figure.height;
    return Plotly.react(element, resolve(data, colour), layout, config);
  };
  const redraw = () => plots.forEach(draw);

  // One plot per turn of the event loop, so that the page remains responsive.
  const queue = [...plots];
  const next = () => {
    const element = queue.shift();
    if (element) {
      draw(element);
      setTimeout(next, 0);
    } else {
      document.documentElement.dataset.drawn = "";
    }
  };

  const selects = [...document.querySelectorAll("select[data-switch]")];
  const choose = (index) => {
    for (const select of selects) select.value = String(index);
    for (const part of document.querySelectorAll("[data-method]")) {
      part.hidden = part.dataset.method !== String(index);
    }
    for (const element of plots) {
      if (!figures[element.dataset.plot].variants) continue;
      chosen[element.dataset.plot] = index;
      draw(element);
    }
  };
  for (const select of selects) select.addEventListener("change", () => choose(+select.value));

  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    const number = Number(text);
    return text === "" || text === "–" ? null : Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const sort = (header) => {
    const body = header.closest("table").tBodies[0];
    const column = header.cellIndex;
    const rows = [...body.rows];
    // The first click sorts numbers in descending and words in ascending order.
    const words = rows.some((row) => typeof key(row, column) === "string");
    const before = header.getAttribute("aria-sort");
    const up = before ? before === "descending" : words;
    const order = (a, b) => {
      const x = key(a, column);
      const y = key(b, column);
      if (x === null || y === null) return (x === null) - (y === null);
      const sign = words ? String(x).localeCompare(String(y)) : x - y;
      return up ? sign : -sign;
    };
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows.sort(order));
  };
  for (const button of document.querySelectorAll(".sortable thead button")) {
    button.addEventListener("click", () => sort(button.closest("th")));
  }

  const filters = [...document.querySelectorAll("[data-filter]")];
  const cards = [...document.querySelectorAll(".rows > li")];
  const filter = () => {
    const asked = Object.fromEntries(filters.map((f) => [f.dataset.filter, f.value]));
    const words = asked.text.trim().toLowerCase();
    let shown = 0;
    for (const card of cards) {
      const fits =
        (!asked.kind || card.dataset.kind.split("|").includes(asked.kind)) &&
        (!asked.label || card.dataset.label === asked.label) &&
        (!asked.wrong || card.dataset.wrong.split(" ").includes(asked.wrong)) &&
        (!words || card.textContent.toLowerCase().includes(words));
      card.hidden = !fits;
      shown += fits;
    }
    document.querySelector("[data-shown]").textContent =
      shown === 1 ? "1 row" : `${shown} rows`;
  };
  for (const part of filters) part.addEventListener("input", filter);
  document.querySelector("form.filter")?.addEventListener("submit", (e) => e.preventDefault());

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  // Printed pages use the light theme and show all folded parts.
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "";
    for (const part of document.querySelectorAll("details")) part.open = true;
    redraw();
  });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    redraw();
  });
  if (matchMedia("(max-width: 600px)").matches) {
    document.querySelector("nav details").open = false;
  }
  next();
})();
