// Sorting, filtering and pointing. Pages are whole without it: it moves and hides what is there, and
// writes text only as text.
"use strict";

const stored = {
  get() { try { return localStorage.getItem("theme"); } catch { return null; } },
  set(value) { try { localStorage.setItem("theme", value); } catch { /* a browser that keeps nothing */ } },
};
const root = document.documentElement;
if (["light", "dark"].includes(stored.get())) root.dataset.theme = stored.get();

function themeButton() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; button.title = `Show pages ${dark() ? "light" : "dark"}`; };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    stored.set(root.dataset.theme);
    label();
  });
  system.addEventListener("change", label);
  label();
  button.hidden = false;
}

// One table whose rows can be put in order and hidden.
class Table {
  constructor(section) {
    this.section = section;
    this.id = section.dataset.board;
    this.body = section.querySelector("tbody");
    this.rows = [...this.body.rows];
    this.heads = [...section.querySelectorAll("th[data-key]")];
    this.names = this.rows.map((row) => row.cells[1].textContent.trim());
    this.lower = this.names.map((name) => name.toLowerCase());
    this.values = new Map();
    this.score = this.heads.findIndex((head) => head.dataset.key === "score");
    for (const head of this.heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.title = head.title;
      head.removeAttribute("title");
      head.append(button);
      button.addEventListener("click", () => this.press(head));
    }
    this.now = "rank ascending";
  }

  first(head) { return head.dataset.better === "low" ? "ascending" : "descending"; }

  press(head) {
    const was = head.getAttribute("aria-sort");
    const turned = was === "ascending" ? "descending" : "ascending";
    state.sort = head.dataset.key;
    state.dir = was ? turned : this.first(head);
    show();
  }

  // The values of a column in the order of the page as it was written; null where there is none.
  column(index) {
    if (!this.values.has(index)) {
      const read = (cell) => {
        if (cell.dataset.v === undefined) return cell.textContent.trim().toLowerCase();
        return cell.dataset.v === "" ? null : Number(cell.dataset.v);
      };
      this.values.set(index, this.rows.map((row) => read(row.cells[index])));
    }
    return this.values.get(index);
  }

  sort(key, dir) {
    const index = Math.max(0, this.heads.findIndex((head) => head.dataset.key === key));
    const head = this.heads[index];
    const way = dir === "ascending" || dir === "descending" ? dir : this.first(head);
    if (this.now === `${head.dataset.key} ${way}`) return;
    this.now = `${head.dataset.key} ${way}`;
    const values = this.column(index), sign = way === "ascending" ? 1 : -1;
    const order = [...values.keys()].sort((a, b) => {
      const x = values[a], y = values[b];
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      return sign * (x < y ? -1 : x > y ? 1 : 0) || a - b;
    });
    for (const other of this.heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", way);
    this.body.append(...order.map((i) => this.rows[i]));
  }

  filter(tracks, shots, text) {
    const scores = this.column(this.score), low = this.heads[this.score].dataset.better === "low";
    const kept = this.rows.map((row, i) =>
      (!tracks || tracks.includes(row.dataset.track)) && (!shots || row.dataset.shots === shots) && this.lower[i].includes(text));
    this.rows.forEach((row, i) => { if (row.hidden === kept[i]) row.hidden = !kept[i]; });
    this.rows.forEach((row, i) => {
      if (!kept[i] || scores[i] === null) return;
      const ahead = scores.filter((s, j) => kept[j] && s !== null && (low ? s < scores[i] : s > scores[i])).length;
      const place = String(ahead + 1);
      if (row.cells[0].textContent !== place) row.cells[0].textContent = place;
    });
    return kept.filter(Boolean).length;
  }
}

const GROUPS = ["tasks", "cost", "checks", "robustness"];
const TRACKS = ["search", "proposer", "policy"];
const state = { board: "", sort: "rank", dir: "", q: "", shots: "", track: null, hide: [] };
let tables = [];

function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const list = (name, known) => (given.has(name) ? given.get(name).split(",").filter((v) => known.includes(v)) : null);
  state.board = tables.some((t) => t.id === given.get("board")) ? given.get("board") : tables[0].id;
  state.sort = given.get("sort") || "rank";
  state.dir = given.get("dir") || "";
  state.q = given.get("q") || "";
  state.shots = ["zero-shot", "few-shot"].includes(given.get("shots")) ? given.get("shots") : "";
  state.track = list("track", TRACKS);
  state.hide = list("hide", GROUPS) || [];
}

function write() {
  const kept = new URLSearchParams();
  if (state.board !== tables[0].id) kept.set("board", state.board);
  if (state.sort !== "rank" || (state.dir && state.dir !== "ascending")) { kept.set("sort", state.sort); if (state.dir) kept.set("dir", state.dir); }
  if (state.q) kept.set("q", state.q);
  if (state.shots) kept.set("shots", state.shots);
  if (state.track) kept.set("track", state.track.join(","));
  if (state.hide.length) kept.set("hide", state.hide.join(","));
  const hash = kept.toString().replaceAll("%2C", ",");
  if (hash === location.hash.slice(1)) return;
  try { history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search); } catch { location.hash = hash; }
}

function show() {
  for (const table of tables) {
    const chosen = table.id === state.board;
    table.section.hidden = !chosen;
    if (!chosen) continue;
    table.sort(state.sort, state.dir);
    const shown = table.filter(state.track, state.shots, state.q.trim().toLowerCase());
    for (const group of GROUPS) table.section.classList.toggle(`hide-${group}`, state.hide.includes(group));
    const count = `${shown} of ${table.rows.length} methods`;
    const place = document.getElementById("count");
    if (place.textContent !== count) place.textContent = count;
  }
  write();
}

function fill() {
  const form = document.getElementById("controls");
  if (form.board) form.board.value = state.board;
  form.find.value = state.q;
  for (const box of form.querySelectorAll("[name=track]")) box.checked = !state.track || state.track.includes(box.value);
  for (const dot of form.querySelectorAll("[name=shots]")) dot.checked = dot.value === state.shots;
  for (const box of form.querySelectorAll("[name=group]")) box.checked = !state.hide.includes(box.value);
}

function boards() {
  tables = [...document.querySelectorAll("section.board")].map((section) => new Table(section));
  if (!tables.length) return;
  const form = document.getElementById("controls");
  form.addEventListener("submit", (event) => event.preventDefault());
  const take = () => {
    const values = (name, checked) => [...form.querySelectorAll(`[name=${name}]`)].filter((box) => box.checked === checked).map((box) => box.value);
    if (form.board) state.board = form.board.value;
    state.q = form.find.value;
    state.track = values("track", false).length ? values("track", true) : null;
    state.shots = values("shots", true)[0];
    state.hide = values("group", false);
    show();
  };
  for (const kind of ["input", "change"]) form.addEventListener(kind, take);
  const narrow = matchMedia("(max-width: 40rem)"), more = document.getElementById("more");
  const fold = () => { more.open = !narrow.matches; };
  narrow.addEventListener("change", fold);
  fold();
  const again = () => { read(); fill(); show(); };
  addEventListener("hashchange", again);
  again();
  form.hidden = false;
}

// The curves of a task: the method that is pointed at, here or in the table, stands out.
function curves() {
  const drawing = document.querySelector("svg.all");
  if (!drawing) return;
  const lines = new Map(), rows = new Map(), which = document.getElementById("which");
  for (const path of drawing.querySelectorAll("[data-course]")) {
    const points = path.getAttribute("d").slice(1).split(" ").map((p) => p.split(",").map(Number));
    lines.set(path.dataset.course, { path, points, name: path.textContent });
    path.querySelector("title").remove();
  }
  for (const row of document.querySelectorAll("tr[data-course]")) rows.set(row.dataset.course, row);
  let at = null;
  const point = (id) => {
    if (id === at) return;
    for (const [key, on] of [[at, false], [id, true]]) {
      lines.get(key)?.path.classList.toggle("on", on);
      rows.get(key)?.classList.toggle("on", on);
    }
    at = id;
    drawing.classList.toggle("pointed", lines.has(id));
    const value = rows.get(id)?.cells[3].textContent;
    which.textContent = lines.has(id) ? `${lines.get(id).name}  ${value}` : "\u00a0";
  };
  const height = (points, x) => {
    if (x < points[0][0] - 8) return Infinity;
    const next = points.findIndex((p) => p[0] >= x);
    if (next < 1) return points[next === 0 ? 0 : points.length - 1][1];
    const [[x0, y0], [x1, y1]] = [points[next - 1], points[next]];
    return y0 + ((y1 - y0) * (x - x0)) / (x1 - x0 || 1);
  };
  drawing.addEventListener("pointermove", (event) => {
    const mouse = new DOMPoint(event.clientX, event.clientY).matrixTransform(drawing.getScreenCTM().inverse());
    let nearest = null, least = 24;
    for (const [id, { points }] of lines) {
      const off = Math.abs(height(points, mouse.x) - mouse.y);
      if (off < least) [nearest, least] = [id, off];
    }
    point(nearest);
  });
  drawing.addEventListener("pointerleave", () => point(null));
  for (const [id, row] of rows) {
    row.addEventListener("pointerenter", () => point(id));
    row.addEventListener("pointerleave", () => point(null));
    row.addEventListener("focusin", () => point(id));
    row.addEventListener("focusout", () => point(null));
  }
  for (const note of document.querySelectorAll(".script")) note.hidden = false;
}

document.addEventListener("DOMContentLoaded", () => { themeButton(); boards(); curves(); });
