// Line charts in SVG. Places are equally far apart, whatever time lies between them: closed hours take no room.

const SPACE = "http://www.w3.org/2000/svg";

function drawn(name, attributes, text) {
  const element = document.createElementNS(SPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// Round values that divide a range into about `wanted` parts.
export function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  // A range of a few roundings is none: its parts are no numbers of their own.
  if (!(raw > 1e-12 * Math.max(Math.abs(low), Math.abs(high)))) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= raw);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high; at += 1) found.push(at * step + 0); // + 0: no -0
  return found;
}

function range(values) {
  const seen = values.filter((value) => value !== null && value !== undefined);
  const low = Math.min(...seen);
  const high = Math.max(...seen);
  const room = (high - low || Math.abs(high) || 1) * 0.07;
  return [low - room, high + room];
}

export class Chart {
  // label(time): below the chart. value(number, step): beside it.
  constructor(box, { label, value }) {
    this.box = box;
    this.label = label;
    this.value = value;
    this.content = null;
    new ResizeObserver(() => this.redraw()).observe(box);
  }

  // times: of all places. lines: {kind, values}, null where there is none. band: {lower, upper}. next: {at, yhat, lower, upper}.
  show(content) {
    this.content = content;
    this.redraw();
  }

  place(index) {
    const spread = Math.max(1, this.content.times.length - 1);
    return 6 + (index / spread) * (this.width - 12);
  }

  height(value) {
    return 8 + ((this.high - value) / (this.high - this.low)) * (this.bottom - 8);
  }

  nearest(x) {
    const spread = Math.max(1, this.content.times.length - 1);
    return Math.max(0, Math.min(spread, Math.round(((x - 6) / (this.width - 12)) * spread)));
  }

  redraw() {
    const { clientWidth, clientHeight } = this.box;
    if (!this.content || !clientWidth) return;
    const { times, lines, band, next, description } = this.content;
    const values = [...lines.flatMap((line) => line.values), ...(band ? [...band.lower, ...band.upper] : [])];
    if (next) values.push(next.lower, next.upper, next.yhat);
    this.bottom = clientHeight - 22;
    const svg = drawn("svg", { width: clientWidth, height: clientHeight, role: "img", "aria-label": description });
    if (values.some((value) => value !== null && value !== undefined)) {
      [this.low, this.high] = range(values);
      this.scales(svg, clientWidth, times);
      if (band) this.shade(svg, band);
      for (const line of lines) this.trace(svg, line);
      if (next) this.point(svg, next);
    } else {
      this.width = clientWidth;
      svg.append(drawn("text", { x: clientWidth / 2, y: clientHeight / 2, "text-anchor": "middle" }, "nothing to show yet"));
    }
    this.cross = drawn("line", { class: "cross", y1: 4, y2: this.bottom, visibility: "hidden" });
    svg.append(this.cross);
    this.box.replaceChildren(svg);
    if (this.marked !== undefined) this.mark(this.marked);
  }

  scales(svg, width, times) {
    const marks = ticks(this.low, this.high, Math.max(2, this.bottom / 48));
    const step = marks.length > 1 ? marks[1] - marks[0] : this.high - this.low;
    const texts = marks.map((mark) => this.value(mark, step));
    this.width = width - 12 - 6.6 * Math.max(...texts.map((text) => text.length));
    marks.forEach((mark, index) => {
      const y = this.height(mark);
      svg.append(drawn("line", { class: "grid", x1: 0, x2: this.width, y1: y, y2: y }));
      svg.append(drawn("text", { x: this.width + 6, y: y + 4 }, texts[index]));
    });
    const parts = Math.max(1, Math.min(6, Math.floor(this.width / 110)));
    for (let part = 0; part <= parts && times.length; part += 1) {
      const index = Math.round((part / parts) * (times.length - 1));
      const anchor = part === 0 ? "start" : part === parts ? "end" : "middle";
      svg.append(drawn("text", { x: this.place(index), y: this.bottom + 17, "text-anchor": anchor }, this.label(times[index])));
    }
  }

  // Runs of places that have a value.
  runs(values) {
    const runs = [];
    let open = null;
    values.forEach((value, index) => {
      if (value === null || value === undefined) open = null;
      else if (open) open.push(index);
      else runs.push((open = [index]));
    });
    return runs;
  }

  trace(svg, { kind, values }) {
    for (const run of this.runs(values)) {
      const points = run.map((index) => `${this.place(index).toFixed(1)},${this.height(values[index]).toFixed(1)}`);
      if (points.length === 1) points.push(points[0]);
      svg.append(drawn("polyline", { class: kind, points: points.join(" ") }));
    }
  }

  shade(svg, { lower, upper }) {
    for (const run of this.runs(lower)) {
      const side = (indices, values) => indices.map((i) => `${this.place(i).toFixed(1)},${this.height(values[i]).toFixed(1)}`);
      svg.append(drawn("polygon", { class: "band", points: [...side(run, upper), ...side([...run].reverse(), lower)].join(" ") }));
    }
  }

  point(svg, { at, yhat, lower, upper }) {
    const x = this.place(at);
    const [top, bottom] = [this.height(upper), this.height(lower)];
    svg.append(drawn("line", { class: "whisker", x1: x, x2: x, y1: top, y2: bottom }));
    for (const y of [top, bottom]) svg.append(drawn("line", { class: "whisker", x1: x - 4, x2: x + 4, y1: y, y2: y }));
    svg.append(drawn("circle", { class: "next", cx: x, cy: this.height(yhat), r: 4.5 }));
  }

  // Show where the reader is; undefined: nowhere.
  mark(index) {
    this.marked = index;
    if (index === undefined || !this.cross) return this.cross?.setAttribute("visibility", "hidden");
    const x = this.place(Math.min(index, this.content.times.length - 1));
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    this.cross.setAttribute("visibility", "visible");
  }
}
