// The live page: what is asked for, and where each answer goes.

import { Detail, facts } from "./detail.js";
import { Link } from "./link.js";
import { List } from "./list.js";
import { FEED, PHASE, age, clock, count } from "./text.js";

const $ = (id) => document.getElementById(id);

const link = new Link(take, lineChanged);
const list = new List(ask, choose);
const detail = new Detail(() => link.now());
let chosen = null;
let lostSince = null;
let failing = "";
let said = {};

function choose(stream, symbol) {
  chosen = { stream, symbol };
  list.highlight(stream, symbol);
  ask();
  if (matchMedia("(max-width: 1000px)").matches) $("detail").scrollIntoView();
}

// The address keeps what is shown, for a reload or a colleague.
function ask() {
  const { page, ...kept } = list.query;
  history.replaceState(null, "", `#${new URLSearchParams({ ...kept, ...chosen })}`);
  link.follow(new URLSearchParams({ ...kept, page, ...chosen }));
}

function take(name, body) {
  if (name === "overview") showOverview(body);
  else if (chosen && body.stream === chosen.stream && body.symbol === chosen.symbol) showStream(body);
}

function showOverview(body) {
  list.show(body);
  showProcess(body.process);
  if (!chosen && body.rows.length) choose(body.rows[0].stream, body.rows[0].symbol);
}

function showStream(body) {
  detail.show(body);
  const state = body.gone ? "is not here" : `${PHASE[body.phase][1]}, ${FEED[body.feed][1]}, ${body.model}`;
  announce("stream", `${body.symbol}: ${state}`);
}

function showProcess(told) {
  $("version").textContent = told.version;
  const ready = $("ready");
  ready.textContent = told.ready ? "● ready" : "▲ not ready";
  ready.className = `chip ${told.ready ? "good" : "bad"}`;
  failing = told.failing.map((name) => `${name}: ${told.checks[name]}`).join("; ");
  const serving = `${count(told.serving)} with a model, ${count(told.warming)} warming up`;
  const broken = told.stale ? `▲ ${count(told.stale)} broken` : told.streams ? "● none broken" : "–";
  const feeds = ["live", "behind", "closed"].filter((each) => told[each]).map((each) => `${count(told[each])} ${FEED[each][1]}`);
  facts($("totals"), [
    ["Streams", count(told.streams), serving],
    ["Symbols", count(told.symbols), `${count(told.skilled)} of ${count(told.scored)} scored beat the last price`],
    ["Feeds", broken, feeds.join(", ") || " "],
    ["Unread in Kafka", count(told.consumer_lag), "records, all partitions"],
    ["Dead letters", count(told.dead_letters), `since ${clock(told.started)}`],
  ]);
  announce("ready", told.ready ? "ready" : `not ready: ${failing}`);
  notice(told.stale);
}

function lineChanged(state, heard) {
  lostSince = state === "lost" ? heard : null;
  const words = { live: ["● live", "good"], polling: ["◐ asking every 3 s", "warn"], lost: ["▲ no connection", "bad"] };
  const [text, kind] = words[state];
  $("link").textContent = text;
  if (state === "lost") {
    $("ready").textContent = "… unknown";
    $("ready").className = "chip quiet";
  }
  $("link").className = `chip ${kind}`;
  $("link").title = state === "polling" ? "No events to be had, there may be too many who follow; asked for again every 30 s" : "";
  document.body.classList.toggle("offline", state === "lost");
  announce("line", state === "lost" ? `no connection to the daemon since ${clock(heard)}` : `connection ${state}`);
  notice();
}

// One line above all else for what is wrong; the worst wins.
let stale = 0;
function notice(broken = stale) {
  stale = broken;
  let text = "";
  if (lostSince !== null) {
    const gone = age((Date.now() - lostSince) / 1000);
    text = `▲ No connection to the daemon since ${clock(lostSince)} (${gone}). What is shown is from then. The page tries again by itself.`;
  } else if (failing) {
    text = `▲ The daemon is not ready. ${failing}`;
  } else if (stale) {
    const streams = stale === 1 ? "One stream has" : `${count(stale)} streams have`;
    text = `▲ ${streams} no ticks, though it is time for them: the feed is broken. Forecasts stand still until it is back.`;
  }
  $("notice").hidden = !text;
  if ($("notice").textContent !== text) $("notice").textContent = text;
}

// Changes of state are read out, figures are not.
function announce(about, text) {
  if (said[about] === text) return;
  const isFirst = said[about] === undefined;
  said[about] = text;
  if (!isFirst || about === "line") $("announcer").textContent = text;
}

setInterval(() => {
  detail.tell();
  if (lostSince !== null) notice();
}, 1000);

const kept = new URLSearchParams(location.hash.slice(1));
list.query = Object.fromEntries(kept);
if (kept.has("stream") && kept.has("symbol")) chosen = { stream: kept.get("stream"), symbol: kept.get("symbol") };
if (chosen) list.highlight(chosen.stream, chosen.symbol);
ask();
