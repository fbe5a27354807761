// The table of symbols: a page of it, in the order that the daemon gives.

import { FEED, PHASE, count, figure, made, mark, number, percent, skill } from "./text.js";

const $ = (id) => document.getElementById(id);
const keyOf = (row) => JSON.stringify([row.stream, row.symbol]);

export class List {
  // changed(): search, order or page is another. chosen(stream, symbol): a row was picked.
  constructor(changed, chosen) {
    this.changed = changed;
    this.chosen = chosen;
    this.rows = new Map();
    this.order = [];
    this.page = 0;
    this.current = "";
    const again = () => {
      this.page = 0;
      changed();
    };
    $("search").addEventListener("input", () => {
      clearTimeout(this.typing);
      this.typing = setTimeout(again, 250);
    });
    $("sort").addEventListener("change", again);
    document.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());
    $("previous").addEventListener("click", () => this.turn(-1));
    $("next").addEventListener("click", () => this.turn(1));
    this.body = $("rows");
    this.body.addEventListener("pointerleave", () => this.settle());
    this.body.addEventListener("focusout", () => this.settle());
  }

  turn(by) {
    this.page += by;
    this.changed();
  }

  get query() {
    const query = { sort: $("sort").value, page: String(this.page) };
    if ($("search").value.trim()) query.search = $("search").value.trim();
    return query;
  }

  set query({ search, sort }) {
    $("search").value = search ?? "";
    if ([...$("sort").options].some((option) => option.value === sort)) $("sort").value = sort;
  }

  show(overview) {
    this.page = overview.page;
    const wanted = overview.rows.map(keyOf);
    for (const [key, row] of this.rows) {
      if (wanted.includes(key)) continue;
      row.line.remove();
      this.rows.delete(key);
    }
    for (const row of overview.rows) this.fill(row);
    this.order = wanted;
    this.settle();
    const searching = $("search").value.trim();
    $("none").hidden = overview.found > 0;
    $("none").textContent = searching ? `No symbol or stream has “${searching}” in its name.` : "No tick has come yet.";
    $("place").textContent = overview.found ? `${count(overview.found)} symbols, page ${overview.page + 1} of ${overview.pages}` : "";
    $("previous").disabled = overview.page === 0;
    $("next").disabled = overview.page + 1 >= overview.pages;
  }

  // Bring the rows into order, unless somebody is about to press one: it must not move away beneath the finger.
  settle() {
    const held = this.body.matches(":hover") || this.body.contains(document.activeElement);
    const here = [...this.body.children].map((line) => line.dataset.key);
    if (held && this.order.every((key) => here.includes(key))) return;
    if (here.join() === this.order.join()) return;
    const focused = document.activeElement;
    this.body.append(...this.order.map((key) => this.rows.get(key).line));
    if (this.body.contains(focused)) focused.focus();
  }

  fill(row) {
    const key = keyOf(row);
    if (!this.rows.has(key)) this.rows.set(key, this.line(row, key));
    const { cells } = this.rows.get(key);
    const [glyph, word, kind] = skill(row.skill);
    cells[0].replaceChildren(figure(row.price, number(row.price)));
    cells[1].replaceChildren(figure(row.yhat, number(row.yhat)));
    cells[2].replaceChildren(figure(row.skill, `${glyph} ${word}`));
    cells[2].className = `n ${kind}`;
    cells[3].replaceChildren(figure(row.coverage, percent(row.coverage)));
    const sign = row.feed === "live" ? PHASE[row.phase] : FEED[row.feed];
    cells[4].replaceChildren(mark(sign));
    cells[4].title = sign[1];
    cells[4].setAttribute("aria-label", sign[1]);
  }

  line(row, key) {
    const pick = made("button", "pick", row.symbol, made("small", "", row.stream));
    pick.type = "button";
    pick.title = `${row.symbol} in ${row.stream}`;
    pick.addEventListener("click", () => this.chosen(row.stream, row.symbol));
    const name = made("td", "", pick);
    const cells = ["n", "n", "n", "n coverage", ""].map((kind) => made("td", kind));
    const line = made("tr", "", name, ...cells);
    line.dataset.key = key;
    this.body.append(line);
    if (key === this.current) line.setAttribute("aria-current", "true");
    return { line, cells };
  }

  highlight(stream, symbol) {
    this.current = keyOf({ stream, symbol });
    for (const [key, { line }] of this.rows) {
      if (key === this.current) line.setAttribute("aria-current", "true");
      else line.removeAttribute("aria-current");
    }
  }
}
