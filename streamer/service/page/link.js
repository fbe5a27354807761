// The line to the daemon: events where it can have them, else questions every few seconds, and for ever again.

const RETRY = 2000; // ms between two attempts
const ASK_EVERY = 3000; // ms between two questions where no events are to be had
const STREAM_AGAIN = 30000; // ms after which events are tried for again
const SILENT = 25000; // ms without a word, of which one comes every ten seconds, after which the line is dead

export class Link {
  // told(name, body): an event. changed(state, since): "live", "polling" or "lost", and when it was last heard, ms.
  constructor(told, changed) {
    this.told = told;
    this.changed = changed;
    this.state = "connecting";
    this.heard = Date.now();
    this.query = new URLSearchParams();
    this.round = 0;
    this.clock = 0; // ms that the daemon's clock is ahead of ours
    setInterval(() => this.watch(), 1000);
  }

  now() {
    return Date.now() + this.clock;
  }

  // Follow what `query` asks for from now on.
  follow(query) {
    this.query = query;
    this.open();
  }

  open() {
    this.close();
    this.begun = Date.now();
    const round = this.round;
    const source = new EventSource(`api/v1/events?${this.query}`);
    this.source = source;
    let opened = false;
    for (const name of ["overview", "stream", "beat"]) {
      source.addEventListener(name, (event) => {
        if (round !== this.round) return;
        opened = true;
        this.hear("live");
        const body = JSON.parse(event.data);
        if (name === "beat") this.clock = body.now - Date.now();
        else this.told(name, body);
      });
    }
    source.onerror = () => {
      if (round !== this.round) return;
      this.close();
      if (opened) this.later(RETRY / 4, () => this.open());
      else this.ask(Date.now() + STREAM_AGAIN);
    };
  }

  close() {
    this.round += 1;
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }

  later(delay, action) {
    this.timer = setTimeout(action, delay);
  }

  // No events to be had: is anybody there at all?
  async ask(streamAt) {
    const round = this.round;
    try {
      await this.fetchAll(round);
      if (round !== this.round) return;
      const wasLost = this.state === "lost";
      this.hear("polling");
      if (wasLost) return this.open();
      this.later(ASK_EVERY, () => (Date.now() < streamAt ? this.ask(streamAt) : this.open()));
    } catch {
      if (round !== this.round) return;
      this.lose();
      this.later(RETRY, () => this.ask(Date.now() + STREAM_AGAIN));
    }
  }

  async fetchAll(round) {
    const stream = this.query.get("stream");
    const rest = new URLSearchParams([...this.query].filter(([key]) => !["stream", "symbol"].includes(key)));
    const overview = await answer(`api/v1/overview?${rest}`);
    if (round === this.round) this.told("overview", await overview.json());
    if (stream === null) return;
    const chosen = new URLSearchParams([...this.query].filter(([key]) => ["stream", "symbol"].includes(key)));
    const found = await answer(`api/v1/stream?${chosen}`, 404);
    const body = found.ok ? await found.json() : { stream, symbol: this.query.get("symbol"), gone: true };
    if (round === this.round) this.told("stream", body);
  }

  hear(state) {
    this.heard = Date.now();
    this.become(state);
  }

  lose() {
    this.become("lost");
  }

  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.changed(state, this.heard);
  }

  watch() {
    // One that was never answered is as silent as one that has ceased.
    if (!this.source || Date.now() - Math.max(this.begun, this.heard ?? 0) < SILENT) return;
    this.lose();
    this.close();
    this.ask(Date.now() + STREAM_AGAIN);
  }
}

async function answer(address, ...fine) {
  const response = await fetch(address, { cache: "no-store", signal: AbortSignal.timeout(10000) });
  if (!response.ok && !fine.includes(response.status)) throw new Error(`${address}: ${response.status}`);
  return response;
}
