// Words and numbers. Nothing here makes HTML: names come from outside, and are set as text alone.

export const FEED = {
  live: ["●", "live", "good"],
  behind: ["◐", "behind", "warn"],
  stale: ["▲", "feed broken", "bad"],
  closed: ["○", "closed hours", "quiet"],
};
export const PHASE = {
  serving: ["◆", "serving", "good"],
  warming: ["◌", "warming up", "warn"],
};
export const OUTCOME = {
  promoted: ["✔", "promoted", "good"],
  rejected: ["✖", "rejected", "warn"],
  failed: ["▲", "failed", "bad"],
};

// An element with a class and children: text, or elements.
export function made(name, kind = "", ...children) {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function mark([glyph, word, kind], tag = "span") {
  const sign = made("span", "", glyph);
  sign.setAttribute("aria-hidden", "true");
  return made(tag, kind, sign, made("span", "word", ` ${word}`));
}

export function chip([glyph, word, kind]) {
  return made("span", `chip ${kind}`, `${glyph} ${word}`);
}

// A figure as it is read, with its full value for whoever copies or scripts it.
export function figure(value, text) {
  const element = made("data", "", text);
  if (value !== null && value !== undefined) element.value = String(value);
  return element;
}

// Digits after the point that tell values apart that differ by `scale`.
export function digits(scale) {
  if (!(scale > 0)) return 2;
  return Math.min(8, Math.max(0, 2 - Math.floor(Math.log10(scale))));
}

export function number(value, places) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-6 || size >= 1e15)) return value.toExponential(5);
  const most = Math.min(20, places ?? digits(size / 1000));
  return value.toLocaleString("en-US", { minimumFractionDigits: most, maximumFractionDigits: most });
}

export function count(value) {
  return (value ?? 0).toLocaleString("en-US");
}

export function percent(value, signed = false) {
  if (value === null || value === undefined) return "–";
  const text = `${Math.abs(100 * value).toFixed(1)} %`;
  if (value < 0 && !/^0\.0 /.test(text)) return `−${text}`;
  return signed && value > 0 ? `+${text}` : text;
}

export function skill(value) {
  if (value === null || value === undefined) return ["", "not scored", "quiet"];
  if (value > 0.0005) return ["▲", percent(value, true), "good"];
  return value < -0.0005 ? ["▼", percent(value, true), "bad"] : ["=", percent(value), "quiet"];
}

export function age(seconds) {
  const past = Math.max(0, Math.round(seconds));
  if (past < 120) return `${past} s`;
  if (past < 7200) return `${Math.round(past / 60)} min`;
  return past < 172800 ? `${Math.round(past / 3600)} h` : `${Math.round(past / 86400)} days`;
}

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });

export function clock(ms) {
  return CLOCK.format(ms);
}

// The time of day, with the date where it is not today.
export function moment(ms, now = Date.now()) {
  if (ms === null || ms === undefined) return "–";
  const day = DAY.format(ms);
  return day === DAY.format(now) ? clock(ms) : `${day}, ${clock(ms)}`;
}

export function timed(ms, now) {
  if (ms === null || ms === undefined) return "–";
  const element = made("time", "", moment(ms, now));
  element.dateTime = new Date(ms).toISOString();
  element.title = element.dateTime;
  return element;
}
