// The monitor's page. Whatever comes from the bench is text: it goes into the page as textContent,
// title or pixels, never as markup.
"use strict";

const KEPT = 20000; // outcomes that filters look through
const SHOWN = 100; // rows in the table
const LANES = 16;
const PLOT = 120, MINUTE = 60; // seconds
const TABLE_EVERY = 120, DRAW_EVERY = 400; // milliseconds
const ALWAYS = new Set(["OK", "ERROR", "TIMEOUT"]); // the others are offered once they were seen
const STATUSES = ["OK", "PARTIAL", "ERROR", "TIMEOUT", "REJECTED", "CANCELLED", "NOT_NEEDED",
  "NO_PRODUCERS", "LATE"];
const KIND = { OK: "ok", PARTIAL: "ok", ERROR: "bad", REJECTED: "bad", NO_PRODUCERS: "bad",
  TIMEOUT: "timeout", LATE: "late", ready: "ok", busy: "busy", running: "ok", live: "ok",
  failed: "bad", stalled: "bad", stopped: "timeout", reconnecting: "timeout" };

// Places in an outcome, as the server writes it.
const NUMBER = 0, TOPIC = 1, PRODUCER = 2, SITE = 3, STATUS = 4, VALUE = 5, REASON = 6, SENT = 7,
  QUEUED = 8, STARTED = 9, ENDED = 10, SEEN = 11, LATE = 12;

const $ = (id) => document.getElementById(id);
const statusOf = (row) => (row[LATE] ? "LATE" : row[STATUS]);

// ---- what is known -------------------------------------------------------------------------------

let station = {}, rows = [], seconds = new Map(), lanes = new Map();
let matching = []; // the newest outcomes that pass the filter, oldest first
let ahead = 0; // the server's clock less ours, in seconds
let paused = false;
const seenOf = { topic: new Set(), producer: new Set(), site: new Set(), status: new Set() };
const filter = { topic: "", producer: "", site: "", status: new Set() };
const now = () => Date.now() / 1000 + ahead;

function passes(row, by = filter) {
  return (by.topic === "" || row[TOPIC] === by.topic) &&
    (by.producer === "" || row[PRODUCER] === by.producer) &&
    (by.site === "" || String(row[SITE]) === by.site) &&
    (by.status.size === 0 || by.status.has(statusOf(row)));
}

function select() {
  matching = [];
  for (let i = rows.length - 1; i >= 0 && matching.length < SHOWN; i--)
    if (passes(rows[i])) matching.push(rows[i]);
  matching.reverse();
}

function take(news) {
  for (const row of news) {
    rows.push(row);
    draw_later(row);
    if (!paused && passes(row)) matching.push(row);
    seenOf.status.add(statusOf(row));
    for (const [name, place] of [["topic", TOPIC], ["producer", PRODUCER], ["site", SITE]])
      if (row[place] !== null && row[place] !== "" && seenOf[name].size < 500)
        seenOf[name].add(String(row[place]));
  }
  if (rows.length > KEPT * 1.25) rows = rows.slice(-KEPT);
  if (matching.length > SHOWN * 4) matching = matching.slice(-SHOWN);
}

// Bars of the timeline: what touches within a pixel or so becomes one, so there are never many.
function draw_later(row) {
  if (row[STARTED] === null && row[STATUS] !== "TIMEOUT") return;
  let lane = lanes.get(row[PRODUCER]);
  if (!lane) lanes.set(row[PRODUCER], lane = []);
  const kind = KIND[statusOf(row)] || "idle";
  const from = row[STARTED] === null ? row[SEEN] : row[STARTED];
  const to = Math.max(from, row[ENDED] === null ? row[SEEN] : row[ENDED]);
  const last = lane[lane.length - 1];
  if (last && last.kind === kind && from - last.to < 0.05 && from >= last.from)
    last.to = Math.max(last.to, to);
  else lane.push({ from, to, kind });
  if (lane.length > 3000) lane.splice(0, 1000);
}

function keep(list) {
  for (const [time, answers, bad, p50, p99] of list)
    seconds.set(time, { answers, bad, p50, p99 });
  for (const time of seconds.keys()) if (time < now() - PLOT - 5) seconds.delete(time);
}

// ---- the stream ----------------------------------------------------------------------------------

let source = null, lost = 0;

function connect() {
  source = new EventSource("events");
  source.onopen = () => badge($("live"), "live");
  source.onerror = () => {
    badge($("live"), "reconnecting");
    if (source.readyState === EventSource.CLOSED) { // it was refused: ask again later
      source.close();
      setTimeout(connect, 2000);
    }
  };
  source.addEventListener("snapshot", (event) => {
    const all = JSON.parse(event.data);
    ahead = all.now - Date.now() / 1000;
    station = all.station;
    rows = []; matching = []; seconds = new Map(); lanes = new Map();
    for (const each of Object.values(seenOf)) each.clear();
    keep(all.seconds);
    take(all.rows);
    changed("station");
  });
  source.addEventListener("station", (event) => {
    const news = JSON.parse(event.data);
    ahead = news.now - Date.now() / 1000;
    Object.assign(station, news.station);
    keep(news.seconds);
    changed("station");
  });
  source.addEventListener("outcomes", (event) => {
    take(JSON.parse(event.data).rows);
    changed("table");
  });
  source.addEventListener("_closed", () => source.close());
}

// ---- showing: coalesced, in the browser's own frames ------------------------------------------------

const due = { table: false, station: false };
let asked = false, tableAt = 0;

function changed(what) {
  due[what] = true;
  if (what === "station") due.table = true;
  if (!asked) { asked = true; requestAnimationFrame(frame); }
}

function frame(time) {
  asked = false;
  if (due.station) { due.station = false; showStation(); }
  if (due.table) {
    if (time - tableAt >= TABLE_EVERY) { due.table = false; tableAt = time; showTable(); }
    else setTimeout(() => changed("table"), TABLE_EVERY - (time - tableAt));
  }
}

function setText(node, text) {
  if (node.shown !== text) { node.shown = text; node.textContent = text; }
}

function badge(node, text, kind) {
  setText(node, text);
  const name = `badge ${kind || KIND[text] || ""}`;
  if (node.className !== name) node.className = name;
}

// As many rows as there are things, made once and filled again.
function fill(id, things, columns, show) {
  const body = $(id).tBodies[0];
  while (body.rows.length > things.length) body.lastElementChild.remove();
  while (body.rows.length < things.length) {
    const line = body.insertRow();
    for (const kind of columns) {
      const cell = line.insertCell();
      if (kind === "badge") cell.appendChild(document.createElement("span"));
      else if (kind) cell.className = kind;
    }
  }
  things.forEach((thing, i) => show(body.rows[i], thing));
}

function put(cell, text, tip) {
  setText(cell, text);
  tip = tip === undefined ? "" : tip;
  if (cell.title !== tip) cell.title = tip;
}

const count = (n) => n === undefined || n === null ? "–" : n.toLocaleString("en");
const site = (value) => value === null ? "–" : String(value);

function duration(s) {
  if (s === null || s === undefined) return "–";
  if (s < 0) s = 0;
  if (s < 0.001) return `${(s * 1e6).toFixed(0)} µs`;
  if (s < 0.01) return `${(s * 1000).toFixed(1)} ms`;
  if (s < 1) return `${(s * 1000).toFixed(0)} ms`;
  if (s < 120) return `${s.toFixed(s < 10 ? 2 : 1)} s`;
  return s < 7200 ? `${(s / 60).toFixed(0)} min` : `${(s / 3600).toFixed(1)} h`;
}

function clock(time) {
  const date = new Date(time * 1000), two = (n) => String(n).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.` +
    String(date.getMilliseconds()).padStart(3, "0");
}

function showTable() {
  offer("topic"); offer("producer"); offer("site");
  for (const button of $("statuses").children) {
    const status = button.value;
    button.hidden = !(ALWAYS.has(status) || seenOf.status.has(status) || filter.status.has(status));
  }
  const newest = matching.slice(-SHOWN).reverse();
  fill("outcomes", newest, ["", "", "", "", "badge", "", "number"], (line, row) => {
    if (line.number === row[NUMBER] && line.of === station) return;
    line.number = row[NUMBER]; line.of = station;
    const cells = line.cells, status = statusOf(row);
    setText(cells[0], clock(row[ENDED] === null ? row[SEEN] : row[ENDED]));
    put(cells[1], row[TOPIC], row[TOPIC]);
    put(cells[2], row[PRODUCER] || "–", row[PRODUCER]);
    setText(cells[3], site(row[SITE]));
    badge(cells[4].firstChild, row[LATE] ? `late ${row[STATUS]}` : row[STATUS].replace("_", " "),
      KIND[status]);
    const said = row[REASON] || (row[STATUS] === "OK" || row[STATUS] === "PARTIAL" ? row[VALUE] : "");
    put(cells[5], said, said);
    setText(cells[6], row[ENDED] === null ? "–" : duration(row[ENDED] - row[SENT]));
  });
  const filtered = filter.topic || filter.producer || filter.site || filter.status.size;
  $("no-outcomes").hidden = newest.length > 0;
  setText($("no-outcomes"), rows.length ? "No outcome passes the filters." :
    "No outcome yet: nothing has been asked.");
  $("clear").hidden = !filtered;
  setText($("shown"), (station.sampled ? "more than can be shown: a sample · " : "") +
    (paused ? "paused · " : "") + (newest.length ? `newest ${newest.length}` +
    (filtered ? " that pass the filters" : "") : ""));
}

function offer(name) {
  const box = $(`by-${name}`);
  if (box.options.length === seenOf[name].size + 1) return;
  const values = [...seenOf[name]].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  if (filter[name] && !seenOf[name].has(filter[name])) values.push(filter[name]);
  box.replaceChildren(new Option("all", ""), ...values.map((value) => new Option(value, value)));
  box.value = filter[name];
}

function busy(producer) {
  if (!producer.busy) return producer.depth ? `${producer.depth} waiting` : "";
  const [topic, since, wait] = producer.busy;
  const so = since === null ? "" : ` · ${duration(now() - since)}`;
  return wait ? `${topic}: ${wait}${so}` : topic + so;
}

function showStation() {
  document.title = `${station.name || "dispatcher"} – ate-dispatcher monitor`;
  put($("name"), station.name || "dispatcher", station.name);
  badge($("state"), station.state || "…");
  const ended = station.ended || {}, complete = ended.COMPLETE || 0, expired = ended.EXPIRED || 0;
  const all = Object.values(ended).reduce((sum, n) => sum + n, 0);
  setText($("open"), count(station.open));
  setText($("complete"), count(complete));
  setText($("expired"), count(expired));
  setText($("others"), count(all - complete - expired));
  setText($("lates"), count(station.lates));
  $("expired").classList.toggle("alarm", expired > 0);
  $("lates").classList.toggle("alarm", station.lates > 0);

  const producers = station.producers || [], gone = station.gone || [];
  const listeners = station.listeners || [], topics = station.topics || [];
  const lines = [...producers, ...gone.map(([name, state, at]) => ({ name, state, at, gone: true }))];
  fill("producers", lines, ["", "", "", "number", "number", "number", "number"], (line, each) => {
    const cells = line.cells;
    line.producer = each.name;
    line.className = each.gone ? "" : filter.producer === each.name ? "choice chosen" : "choice";
    put(cells[0], each.name, each.name);
    setText(cells[1], each.gone ? "–" : site(each.site));
    let mark = cells[2].firstElementChild, said = mark && mark.nextElementSibling;
    if (!mark) {
      mark = cells[2].appendChild(document.createElement("span"));
      cells[2].append(" ");
      said = cells[2].appendChild(document.createElement("span"));
      said.className = "sub";
    }
    const waits = each.busy && each.busy[2];
    badge(mark, waits ? "waiting" : each.busy && each.state === "ready" ? "busy" : each.state,
      waits ? "timeout" : each.busy ? "busy" : undefined);
    const words = each.gone ? `${duration(now() - each.at)} ago` : busy(each);
    setText(said, words);
    if (cells[2].title !== words) cells[2].title = words;
    const bad = each.gone ? 0 : each.errors + each.timeouts + each.others;
    setText(cells[3], each.gone ? "–" : count(each.depth));
    setText(cells[4], each.gone ? "–" : count(each.ok));
    put(cells[5], each.gone ? "–" : count(bad), each.gone ? "" : `${each.errors} errors, ` +
      `${each.timeouts} timeouts, ${each.others} others, ${each.lates} late answers`);
    cells[5].classList.toggle("alarm", bad > 0);
    setText(cells[6], each.gone ? "–" : each.p50 === null ? "–" :
      `${duration(each.p50)} / ${duration(each.p99)}`);
  });
  $("no-producers").hidden = lines.length > 0;
  setText($("producer-count"), more(producers.length, station.producer_count));

  fill("listeners", listeners, ["", "badge", "number", "number", "number", "number"],
    (line, each) => {
      const cells = line.cells;
      put(cells[0], each.name, each.name);
      badge(cells[1].firstChild, each.state);
      setText(cells[2], count(each.depth));
      setText(cells[3], count(each.delivered));
      setText(cells[4], count(each.dropped));
      cells[4].classList.toggle("alarm", each.dropped > 0);
      setText(cells[5], count(each.errors));
      cells[5].classList.toggle("alarm", each.errors > 0);
    });
  $("no-listeners").hidden = listeners.length > 0;
  setText($("listener-count"), more(listeners.length, station.listener_count));

  if (showStation.topics !== station.topics) {
    showStation.topics = station.topics;
    fill("topics", topics, ["", "", ""], (line, each) => {
      line.topic = each.filter ? "" : each.topic;
      line.className = each.filter ? "" : "choice";
      setText(line.cells[0], each.filter ? `${each.topic} (filter)` : each.topic);
      setText(line.cells[1], each.producers.join(", ") || "–");
      setText(line.cells[2], each.listeners.join(", ") || "–");
    });
  }
  $("no-topics").hidden = topics.length > 0;
  setText($("topic-count"), more(topics.length, station.topic_count));
}

const more = (shown, all) => all > shown ? `${count(shown)} of ${count(all)} shown` : count(all);

// ---- drawing -------------------------------------------------------------------------------------

let colours = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["text", "dim", "grid", "ok", "bad", "timeout", "late", "idle", "accent", "panel"])
    colours[name] = style.getPropertyValue(`--${name}`).trim();
}

function canvas(id) {
  const node = $(id), scale = window.devicePixelRatio || 1;
  const width = node.clientWidth, height = node.clientHeight;
  if (node.width !== Math.round(width * scale) || node.height !== Math.round(height * scale)) {
    node.width = Math.round(width * scale);
    node.height = Math.round(height * scale);
  }
  const pen = node.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = "11px system-ui, 'DejaVu Sans', sans-serif";
  return { pen, width, height };
}

function nice(most) {
  const power = 10 ** Math.floor(Math.log10(most || 1));
  for (const step of [1, 2, 5, 10]) if (step * power >= most) return step * power;
  return 10 * power;
}

function axes({ pen, width, height }, most, label, span) {
  const left = 50, right = width - 6, top = 8, bottom = height - 16;
  pen.textBaseline = "middle";
  pen.lineWidth = 1;
  for (const part of [0, 0.5, 1]) {
    const y = Math.round(bottom - part * (bottom - top)) + 0.5;
    pen.strokeStyle = colours.grid;
    pen.beginPath(); pen.moveTo(left, y); pen.lineTo(right, y); pen.stroke();
    pen.fillStyle = colours.dim; pen.textAlign = "right";
    pen.fillText(label(part * most), left - 6, y);
  }
  ticks(pen, left, right, height, span);
  return { left, right, top, bottom, x: (ago) => right - ago / span * (right - left),
    y: (value) => bottom - Math.min(1, value / most) * (bottom - top) };
}

function ticks(pen, left, right, height, span) {
  pen.fillStyle = colours.dim;
  pen.textBaseline = "alphabetic";
  for (let ago = 0; ago <= span; ago += span / 4) {
    pen.textAlign = ago === 0 ? "right" : ago === span ? "left" : "center";
    pen.fillText(ago ? `−${ago} s` : "now", right - ago / span * (right - left), height - 3);
  }
}

function drawPlots() {
  const last = Math.floor(now()) - 1; // the running second is not full yet
  const list = [];
  for (let time = last - PLOT; time <= last; time++)
    list.push(seconds.get(time) || { answers: 0, bad: 0, p50: null, p99: null });
  const latest = list[list.length - 1];
  setText($("rate"), `${count(latest.answers)} outcomes/s` +
    (latest.bad ? `, ${count(latest.bad)} bad` : ""));

  let surface = canvas("throughput");
  const most = nice(Math.max(5, ...list.map((each) => each.answers)));
  const compact = (n) => n >= 10000 ? `${n / 1000}k` : String(n);
  let box = axes(surface, most, compact, PLOT), pen = surface.pen;
  line(pen, list, box, (each) => each.answers, colours.ok, true);
  line(pen, list, box, (each) => each.bad || (each.answers ? 0 : null), colours.bad, false);

  const known = list.filter((each) => each.p99 !== null);
  const newest = known[known.length - 1];
  setText($("latency-now"), newest ?
    `p50 ${duration(newest.p50)} · p99 ${duration(newest.p99)}` : "no answer yet");
  surface = canvas("latency");
  const slowest = nice(Math.max(0.001, ...known.map((each) => each.p99)));
  box = axes(surface, slowest, (s) => s ? duration(s).replace(".0 ", " ").replace(".00 ", " ") : "0",
    PLOT);
  line(surface.pen, list, box, (each) => each.p99, colours.late, false);
  line(surface.pen, list, box, (each) => each.p50, colours.accent, false);
  surface.pen.textAlign = "left"; surface.pen.textBaseline = "middle";
  surface.pen.fillStyle = colours.late; surface.pen.fillText("p99", box.left + 4, 14);
  surface.pen.fillStyle = colours.accent; surface.pen.fillText("p50", box.left + 30, 14);
}

function line(pen, list, box, value, colour, filled) {
  const step = (box.right - box.left) / (list.length - 1);
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 1.6;
  pen.lineJoin = "round";
  let run = [];
  const flush = () => {
    if (run.length === 1) pen.fillRect(run[0][0] - 1.5, run[0][1] - 1.5, 3, 3);
    if (run.length > 1) {
      pen.beginPath();
      run.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
      pen.stroke();
      if (filled) {
        pen.lineTo(run[run.length - 1][0], box.bottom);
        pen.lineTo(run[0][0], box.bottom);
        pen.globalAlpha = 0.14; pen.fill(); pen.globalAlpha = 1;
      }
    }
    run = [];
  };
  list.forEach((each, i) => {
    const y = value(each);
    if (y === null) flush(); else run.push([box.left + i * step, box.y(y)]);
  });
  flush();
}

function drawTimeline() {
  const producers = station.producers || [];
  const names = producers.map((each) => each.name);
  for (const name of lanes.keys()) if (name && !names.includes(name)) names.push(name);
  const shown = names.slice(0, LANES), rest = names.length - shown.length;
  const height = Math.max(44, shown.length * 15 + 22);
  const node = $("timeline");
  if (node.style.height !== `${height}px`) node.style.height = `${height}px`;
  const { pen, width } = canvas("timeline");
  const left = Math.min(150, Math.max(60, width * 0.16)), right = width - 6, at = now();
  const x = (time) => right - (at - time) / MINUTE * (right - left);
  pen.lineWidth = 1;
  pen.strokeStyle = colours.grid;
  for (let ago = 0; ago <= MINUTE; ago += 15) {
    const line = Math.round(x(at - ago)) + 0.5;
    pen.beginPath(); pen.moveTo(line, 0); pen.lineTo(line, height - 18); pen.stroke();
  }
  if (!shown.length) {
    pen.fillStyle = colours.dim; pen.textAlign = "center"; pen.textBaseline = "middle";
    pen.fillText("Nobody is there to work.", (left + right) / 2, 14);
  }
  shown.forEach((name, i) => {
    const y = i * 15 + 2;
    pen.fillStyle = colours.text; pen.textAlign = "left"; pen.textBaseline = "middle";
    pen.fillText(fit(pen, name, left - 8), 0, y + 6);
    pen.fillStyle = colours.grid; pen.fillRect(left, y + 5.5, right - left, 1);
    const lane = lanes.get(name);
    if (lane) {
      let old = 0;
      while (old < lane.length && lane[old].to < at - MINUTE) old++;
      if (old) lane.splice(0, old);
      for (const bar of lane) {
        const from = Math.max(left, x(bar.from)), to = Math.min(right, x(bar.to));
        pen.fillStyle = colours[bar.kind];
        pen.fillRect(from, y, Math.max(1.5, to - from), 11);
      }
    }
    const producer = producers[i];
    if (producer && producer.busy && producer.busy[1] !== null) {
      const from = Math.max(left, x(producer.busy[1]));
      pen.globalAlpha = 0.55; pen.fillStyle = producer.busy[2] ? colours.timeout : colours.accent;
      pen.fillRect(from, y, Math.max(2, right - from), 11);
      pen.globalAlpha = 1;
    }
  });
  ticks(pen, left, right, height, MINUTE);
  if (rest) {
    pen.textAlign = "left"; pen.fillText(`and ${rest} more`, 0, height - 3);
  }
}

function fit(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  while (text.length > 1 && pen.measureText(`${text}…`).width > width) text = text.slice(0, -1);
  return `${text}…`;
}

// One thing a frame, so that none of them takes long.
function draw() {
  if (document.hidden) return;
  requestAnimationFrame(() => {
    drawPlots();
    requestAnimationFrame(() => {
      drawTimeline();
      if ((station.producers || []).some((each) => each.busy) || (station.gone || []).length)
        changed("station"); // for how long
    });
  });
}

// ---- what the user does --------------------------------------------------------------------------

function refilter() {
  select();
  for (const name of ["topic", "producer", "site"]) {
    const box = $(`by-${name}`);
    if (filter[name] && ![...box.options].some((option) => option.value === filter[name]))
      box.add(new Option(filter[name], filter[name]));
    box.value = filter[name];
  }
  for (const button of $("statuses").children)
    button.setAttribute("aria-pressed", String(filter.status.has(button.value)));
  showTable();
  changed("station");
}

for (const status of STATUSES) {
  const button = document.createElement("button");
  button.type = "button";
  button.value = status;
  button.textContent = status.replace("_", " ");
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => {
    if (!filter.status.delete(status)) filter.status.add(status);
    refilter();
  });
  $("statuses").append(button);
}
for (const name of ["topic", "producer", "site"])
  $(`by-${name}`).addEventListener("change", (event) => {
    filter[name] = event.target.value;
    refilter();
  });
for (const [id, name] of [["producers", "producer"], ["topics", "topic"]])
  $(id).tBodies[0].addEventListener("click", (event) => {
    const line = event.target.closest("tr.choice");
    if (!line) return;
    filter[name] = filter[name] === line[name] ? "" : line[name];
    refilter();
  });
$("clear").addEventListener("click", () => {
  Object.assign(filter, { topic: "", producer: "", site: "" });
  filter.status.clear();
  refilter();
});
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  if (!paused) select();
  showTable();
});

window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
readColours();
showTable();
showStation();
connect();
setInterval(draw, DRAW_EVERY);
