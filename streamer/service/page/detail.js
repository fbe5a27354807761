// One symbol in full: figures, charts, warm-up, feed, trainings.

import { Chart } from "./chart.js";
import { FEED, OUTCOME, PHASE, age, chip, clock, count, digits, figure, made, mark, moment, number, percent, skill, timed } from "./text.js";

const $ = (id) => document.getElementById(id);
const fixed = (value, step) => number(value, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9)));
const WAITS = "Until a model has been trained and has beaten it, the forecast is the last price (“persistence”).";

export class Detail {
  constructor(now) {
    this.now = now;
    this.chart = new Chart($("chart"), { label: clock, value: fixed });
    this.errors = new Chart($("errors"), { label: clock, value: fixed });
    const at = (event) => this.chart.content && this.read(this.chart.nearest(event.clientX - $("chart").getBoundingClientRect().left));
    $("chart").addEventListener("pointermove", at);
    $("chart").addEventListener("pointerdown", at);
    $("chart").addEventListener("pointerleave", () => this.read(undefined));
    $("chart").addEventListener("keydown", (event) => this.step(event));
    $("chart").addEventListener("blur", () => this.read(undefined));
  }

  show(body) {
    this.body = body;
    $("title").replaceChildren(body.symbol ?? "", " ", made("small", "", `stream ${body.stream}`));
    $("full").hidden = Boolean(body.gone);
    $("hint").hidden = !body.gone;
    $("states").hidden = Boolean(body.gone);
    if (body.gone) {
      $("hint").textContent = "This process has no such symbol now: it left the stream, the stream has expired, is being restored, or moved to another instance.";
      return;
    }
    const training = body.training ? [chip(["↻", "training", "quiet"])] : [];
    $("states").replaceChildren(chip(PHASE[body.phase]), chip(FEED[body.feed]), ...training);
    this.tiles(body);
    this.draw(body);
    this.warm(body);
    this.tell();
    this.trainings(body);
  }

  tiles(body) {
    const next = body.forecast;
    const places = next ? Math.min(8, digits(Math.max(next.upper - next.lower, Math.abs(next.yhat) * 1e-6) / 10)) : undefined;
    this.places = places;
    const [glyph, word, kind] = skill(body.skill);
    const better = { good: "better than the last price", bad: "worse than the last price", quiet: body.skill === null ? "no forecast has met its price yet" : "as good as the last price" };
    const coverage = `of prices in their interval; ${percent(body.coverage_target)} wanted`;
    $("tiles").replaceChildren(
      tile("Price", figure(body.price, number(body.price, places)), made("small", "", "tick of ", timed(body.last_tick, this.now()))),
      tile("Next forecast", figure(next?.yhat ?? null, number(next?.yhat, places)), made("small", "", ...interval(next, places, this.now()))),
      tile("Skill", figure(body.skill, `${glyph} ${word}`), made("small", "", better[kind]), kind),
      tile("Coverage", figure(body.coverage, percent(body.coverage)), made("small", "", body.coverage === null ? "not scored yet" : coverage)),
      tile("Error (RMSE)", figure(body.rmse.served, short(body.rmse.served)), made("small", "", `last price ${short(body.rmse.persistence)} · ${count(body.scored)} scored`, ...parts(body.rmse))),
      tile("Forecast by", body.model, made("small", "", ...since(body, this.now())), "long"),
    );
    $("tiles").children[1].dataset.target = next?.target ?? "";
  }

  draw(body) {
    const first = body.prices.time[0] ?? Infinity;
    const next = body.forecast;
    const all = new Set([...body.prices.time, ...body.forecasts.time.filter((time) => time >= first)]);
    if (next) all.add(next.target);
    const times = [...all].sort((a, b) => a - b);
    const aligned = (from, values) => {
      const known = new Map(from.map((time, index) => [time, values[index]]));
      return times.map((time) => known.get(time) ?? null);
    };
    const price = aligned(body.prices.time, body.prices.price);
    const [yhat, lower, upper] = ["yhat", "lower", "upper"].map((part) => aligned(body.forecasts.time, body.forecasts[part]));
    this.points = { times, price, yhat, lower, upper };
    if (next) Object.entries({ yhat, lower, upper }).forEach(([name, values]) => (values[values.length - 1] = next[name]));
    this.chart.show({
      times,
      lines: [{ kind: "yhat", values: yhat }, { kind: "price", values: price }],
      band: { lower, upper },
      next: next && { at: times.length - 1, ...next },
      description: `Price of ${body.symbol} at the last ${body.prices.time.length} ticks with the forecasts made for them, and the next. Left and right read it.`,
    });
    const { time, served, persistence } = body.errors;
    this.errors.show({
      times: time,
      lines: [{ kind: "base", values: persistence }, { kind: "yhat solid", values: served }],
      description: `Error of ${body.symbol}: published ${short(body.rmse.served)}, last price ${short(body.rmse.persistence)}.`,
    });
    this.read(this.chart.marked);
  }

  step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.points) return;
    event.preventDefault();
    const last = this.points.times.length - 1;
    this.read(Math.max(0, Math.min(last, (this.chart.marked ?? last) + (this.chart.marked === undefined ? 0 : by))));
    $("readout").setAttribute("aria-live", "polite");
  }

  read(index) {
    this.chart.mark(index);
    if (index === undefined || !this.points) {
      $("readout").setAttribute("aria-live", "off");
      $("readout").textContent = "Point at the chart, or press ← and → on it, to read it.";
      return;
    }
    const at = Math.min(index, this.points.times.length - 1);
    const [price, yhat, lower, upper] = ["price", "yhat", "lower", "upper"].map((name) => number(this.points[name][at], this.places));
    $("readout").textContent = `${moment(this.points.times[at], this.now())}: price ${price}, forecast ${yhat}, interval ${lower} to ${upper}`;
  }

  warm({ warm_up: warm, phase, model, training, trainings }) {
    const said = [];
    if (phase === "warming") said.push(WAITS);
    if (training) said.push("A training is queued or running.");
    else if (warm.next_in === null) said.push("Trainings are done on request only, or repeat those of an earlier run.");
    else said.push(`The ${trainings.length || model !== "persistence" ? "next" : "first"} training is due in ${count(warm.next_in)} ticks.`);
    const bars = [
      ["Ring of past ticks", warm.ring, warm.window],
      ["Ticks until the first training", warm.history, warm.first],
      ["History to train on", warm.held, warm.capacity],
    ];
    const open = bars.filter(([, value, most]) => phase === "warming" || value < most);
    if (!open.length) said.push("Ring and history are full.");
    $("warm").replaceChildren(...open.map((each) => bar(...each)), made("p", "said quiet", said.join(" ")));
  }

  // What depends on the clock too: called again each second.
  tell() {
    const body = this.body;
    if (!body || body.gone) return;
    const now = this.now();
    const counts = body.counts;
    const behind = body.known_at === null ? null : (now - body.known_at) / 1000;
    const [, word] = FEED[body.feed];
    const why = {
      live: "ticks come as they should",
      behind: "ticks come, but their times are old",
      stale: "no tick comes, though it is time for one",
      closed: "no tick is expected at this time",
    };
    facts($("feed"), [
      ["State", `${word}: ${why[body.feed]}`],
      ["Last tick", timed(body.last_tick, now)],
      ["Lag by its time", behind === null ? "–" : behind < -1 ? `none: ${age(-behind)} ahead of the clock` : age(behind)],
      ["Arrived", body.arrived === null ? "none since the start" : `${age((now - body.arrived) / 1000)} ago`],
      ["Ticks expected now", body.expected ? "yes" : "no"],
      ["Unread in Kafka", body.consumer_lag === null ? "–" : `${count(body.consumer_lag)} records of ${body.partition}`],
      ["Ticks missing", `${count(counts.missing)} stepped over, ${count(counts.breaks)} new sessions`],
      ["Blank prices", count(counts.blanks)],
      ["Dropped", `${count(counts.duplicate)} duplicate, ${count(counts.late)} late`],
      ["Dead letters", count(counts.dead_letter)],
    ]);
  }

  trainings({ trainings }) {
    const lines = trainings.map((each) =>
      made("tr", "",
        made("td", "", timed(each.at, this.now())),
        mark(OUTCOME[each.outcome], "td"),
        made("td", "n", percent(each.skill, true)),
        made("td", "n", number(each.ratio, 3)),
        made("td", "n", `${each.seconds.toFixed(1)} s`),
        made("td", "", each.due.replaceAll("_", " ")),
        made("td", "", each.detail),
      ));
    const none = made("td", "quiet", "None yet.");
    none.colSpan = 7;
    $("trainings").replaceChildren(...(lines.length ? lines : [made("tr", "", none)]));
  }
}

function short(value) {
  return value === null || value === undefined ? "–" : value.toLocaleString("en-US", { minimumSignificantDigits: 4, maximumSignificantDigits: 4 });
}

function parts({ lstm, linear }) {
  return lstm === undefined || lstm === null ? [] : [made("small", "", `network ${short(lstm)} · linear ${short(linear)}`)];
}

function interval(next, places, now) {
  if (!next) return ["none yet"];
  return [`${number(next.lower, places)} to ${number(next.upper, places)}, for `, timed(next.target, now)];
}

function since(body, now) {
  if (body.model === "persistence") return ["the last price; no model serves"];
  return ["trained on ticks up to ", timed(body.trained, now)];
}

function tile(name, value, more, kind = "") {
  return made("div", "", made("dt", "", name), made("dd", kind, value, more));
}

function bar(name, value, most) {
  const progress = made("progress");
  progress.max = Math.max(1, most);
  progress.value = value;
  progress.setAttribute("aria-label", name);
  return made("div", "bar", made("span", "", made("span", "", name), made("span", "", `${count(value)} of ${count(most)}`)), progress);
}

export function facts(list, pairs) {
  list.replaceChildren(...pairs.map(([name, value, more]) => made("div", "", made("dt", "", name), made("dd", "", value, ...(more ? [made("small", "", more)] : [])))));
}
