// The page of a run. Reads v1/stream, and v1/miners/HOTKEY and v1/agreement/STAGE when they are looked at.
// Law: what strangers wrote is put on the page as text only; nothing is fetched from anywhere else; a panel that is out
// of sight, or unchanged, is not drawn.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function make(tag, attrs = {}, ...children) {
  const svg = tag.startsWith("svg:");
  const node = svg ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [key, value] of Object.entries(attrs)) {
    if (value === false || value == null) continue;
    if (key === "class") node.setAttribute("class", value);
    else if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) node.style.setProperty(key, value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children) if (child != null) node.append(child);
  return node;
}

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// ---- words and figures

// Making a format takes longer than using it, and a look at 1,000 miners uses hundreds.
const formats = [];
const fixed = (digits) => (formats[digits] ??= new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const whole = fixed(0), hours = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const num = (value, digits = 0) => (value == null ? "–" : fixed(digits).format(value));
const percent = (share, digits = 1) => (share == null ? "–" : `${num(100 * share, digits)} %`);
const signed = (value, digits) => (value < 0 ? "−" : "+") + num(Math.abs(value), digits);
const short = (hotkey) => (hotkey.length > 14 ? `${hotkey.slice(0, 6)}…${hotkey.slice(-4)}` : hotkey);
const clock = (at) => hours.format(at * 1000);
const plural = (count, what, many = `${what}s`) => `${whole.format(count)} ${count === 1 ? what : many}`;

// The core counts epochs from 0, people from 1.
const fromOne = (text) => text.replace(/\bepoch (\d+)/g, (_, n) => `epoch ${+n + 1}`);

function amount(value) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]])
    if (Math.abs(value) >= size) return num(value / (unit === "k" ? 1e3 : size), value / size >= 100 ? 0 : 1) + " " + unit;
  return num(value);
}

function bytes(value) {
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (value < 1000 || unit === "TB") return `${num(value, value < 10 && unit !== "B" ? 1 : 0)} ${unit}`;
    value /= 1000;
  }
}

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return `${s} s`;
  if (s < 5400) return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")} min`;
  return s < 172800 ? `${num(s / 3600, 1)} h` : `${num(s / 86400, 1)} days`;
}

const HEALTH = {
  working: ["--accent", "has work"], idle: ["--off", "waits for work"], installing: ["--blue", "fetches its stage"],
  resting: ["--warn", "rests after failures"], leaving: ["--violet", "finishes and leaves"], away: ["--bad", "not connected"],
  waiting: ["--blue", "waits for a seat"], banned: ["--bad", "is banned"], gone: ["--off", "has left"],
};
const PHASES = [["wait", "Wait"], ["train", "Train"], ["commit", "Commit"], ["reduce", "Reduce"], ["install", "Install"], ["done", "Done"]];

// ---- what is known

const known = { run: null, head: {}, stages: [], rows: new Map(), epochs: new Map(), events: [], all: null, recent: null };
let columns = [], epochColumns = [], skew = 0, board = [], serial = 0;
const traffic = [];

function take(message) {
  skew = message.now - Date.now() / 1000;
  if (message.run) known.run = message.run;
  if (message.full) {
    ({ columns, epoch_columns: epochColumns } = message);
    known.rows = new Map();
    known.epochs = new Map();
    known.events = [];
    traffic.length = 0;
  }
  if (message.head) Object.assign(known.head, message.head);
  if (message.stages) known.stages = message.stages;
  for (const change of message.rows ?? []) takeRow(change);
  for (const number of message.gone ?? []) known.rows.delete(number);
  for (const values of message.epochs ?? []) {
    const epoch = Object.fromEntries(epochColumns.map((name, i) => [name, values[i]]));
    known.epochs.set(epoch.epoch, epoch);
  }
  for (const event of message.events ?? []) known.events.push(event);
  known.events.splice(0, known.events.length - 200);
  for (const name of ["all", "recent"]) if (message[name]) takeCurve(name, message[name]);
  traffic.push([message.now, known.head.bytes_activations]);
  while (traffic.length > 12) traffic.shift();
  serial++;
  if (message.full || message.rows || message.gone) board = [...known.rows.values()];
  if (message.paths) swarm.travel(message.paths);
  refresh(message);
}

function takeRow(change) {
  const number = change[0];
  if (typeof change[1] === "string") {
    const row = { number, seen: 0 };
    columns.forEach((name, i) => (row[name] = change[i + 1]));
    known.rows.set(number, row);
    return;
  }
  const row = known.rows.get(number);
  if (!row) return;
  for (let i = 1; i < change.length; i += 2) {
    if (columns[change[i]] === "done" && change[i + 1] > row.done) row.seen = performance.now();
    row[columns[change[i]]] = change[i + 1];
  }
}

function takeCurve(name, news) {
  const before = news.whole || !known[name] ? [] : known[name].points;
  const from = news.points[0]?.[0] ?? Infinity;
  let keep = before.length;
  while (keep && before[keep - 1][0] >= from) keep--;
  const points = before.slice(0, keep).concat(news.points);
  if (name === "recent" && points.length) {
    const oldest = points[points.length - 1][0] - 900;
    while (points.length && points[0][0] < oldest) points.shift();
  }
  known[name] = { width: news.width, points };
}

// ---- drawing when it is needed

const panels = [];
let asked = false, turn = -1;

function panel(node, draw, needs) {
  const entry = { node, draw, needs, dirty: true, visible: true };
  new IntersectionObserver((seen) => {
    entry.visible = seen[seen.length - 1].isIntersecting;
    if (entry.visible && entry.dirty) ask();
  }, { rootMargin: "200px" }).observe(node);
  panels.push(entry);
  return () => { entry.dirty = true; ask(); };
}

function refresh(message) {
  for (const entry of panels) if (message.full || entry.needs.some((key) => key in message)) entry.dirty = true;
  ask();
}

function ask() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    if (!known.run) return;
    // One a frame: what is drawn has to be laid out and painted in it too. In turn, so that no panel waits for ever.
    for (let i = 0; i < panels.length; i++) {
      const entry = panels[turn = (turn + 1) % panels.length];
      if (!entry.dirty || !entry.visible) continue;
      entry.dirty = false;
      // What is wrong with one panel must not take the others along.
      try { entry.draw(); } catch (error) { console.error(error); }
      return ask();
    }
  });
}

// ---- the head of the page

const steps = PHASES.map(([name, label]) => {
  const bar = make("i");
  const item = make("li", {}, make("b", {}, bar), label);
  $("steps").append(item);
  return { name, item, bar };
});

function drawPhase() {
  const { head, run } = known;
  const at = PHASES.findIndex(([name]) => name === head.phase);
  steps.forEach(({ item, bar }, i) => {
    item.className = i === at ? "on" : i < at && (i || head.epoch || at) ? "done" : "";
    if (i === at) item.setAttribute("aria-current", "step"); else item.removeAttribute("aria-current");
    bar.style.transform = i === at ? `scaleX(${head.phase === "done" ? 1 : head.progress})` : "";
  });
  const of = head.epochs ? ` of ${head.epochs}` : "";
  put($("phase-title"), head.phase === "done" ? `Complete after ${plural(head.epochs, "epoch")}` : `Epoch ${head.epoch + 1}${of}: ${head.phase}`);
  const why = { train: `${whole.format(head.in_epoch)} of ${whole.format(head.per_epoch)} microbatches` }[head.phase];
  const waits = head.phase === "train" && head.waiting_for === "miners train" ? "miners train" : `waits for ${fromOne(head.waiting_for)}`;
  put($("phase-why"), head.phase === "done" ? "nothing is waited for" : [waits, why].filter(Boolean).join(" · "));
  put($("run-name"), run.name);
  const facts = [`subnet ${run.netuid}`, `${run.preset}, ${amount(run.params.reduce((a, b) => a + b, 0))} parameters in ${plural(run.stages, "stage")}`];
  if (head.block) facts.push(`block ${whole.format(head.block)}`);
  facts.push(`validator ${short(run.validator)}`);
  put($("run-facts"), facts.join("  ·  "));
  document.title = head.phase === "done" ? `${run.name}: complete` : `${run.name}: epoch ${head.epoch + 1}, ${head.phase}`;
  drawUntil();
}

function drawUntil() {
  const { head } = known;
  if (!head.phase || head.phase === "done") return $("until").replaceChildren();
  const left = head.deadline - Date.now() / 1000 - skew;
  if (!$("until").firstChild) $("until").append(make("b"), "at most, until the run goes on");
  put($("until").firstChild, duration(left));
}
setInterval(drawUntil, 1000);

const tiles = ["Held-out loss", "Training loss", "Throughput", "Miners ready", "Microbatches", "Activations sent"].map((label) => {
  const value = make("b"), note = make("span");
  $("tiles").append(make("div", { class: "tile" }, make("span", {}, label), value, note));
  return (text, unit, words) => {
    put(value.firstChild ?? value.appendChild(document.createTextNode("")), text);
    if (unit && !value.lastElementChild) value.append(make("small"));
    if (value.lastElementChild) put(value.lastElementChild, unit);
    put(note, words);
  };
});

function pace(seconds = 15) {
  const curve = known.recent;
  if (!curve) return 0;
  const now = Date.now() / 1000 + skew;
  let sum = 0;
  for (const [at, , rate] of curve.points) if (at > now - seconds - curve.width) sum += rate * curve.width;
  return (sum * known.run.tokens) / (seconds + curve.width);
}

function drawTiles() {
  const { head, run } = known;
  const fall = head.held_out != null && head.first_held_out ? head.held_out / head.first_held_out - 1 : null;
  tiles[0](head.held_out == null ? "–" : num(head.held_out, 3), "nats", head.held_out == null ? "not measured yet" :
    head.held_out_epoch ? `after epoch ${head.held_out_epoch}${fall == null ? "" : `: ${signed(100 * fall, 0)} %`}` : "before training");
  tiles[1](head.loss == null ? "–" : num(head.loss, 3), "nats", "newest 32 microbatches");
  tiles[2](amount(pace()), "tokens/s", `${amount(head.retired * run.tokens)} tokens in all`);
  tiles[3](whole.format(head.ready), `of ${whole.format(head.seated)}`, [head.empty.length && `stage ${head.empty.join(", ")} is empty`,
    head.banned && `${head.banned} banned`, head.line && `${head.line} in line`].filter(Boolean).join(", ") || "all seats are staffed");
  tiles[4](whole.format(head.retired), "", `${head.live} on their way, ${head.lost} lost`);
  const [[t0, b0], [t1, b1]] = [traffic[0], traffic[traffic.length - 1]];
  const flow = t1 > t0 ? (b1 - b0) / (t1 - t0) : 0;
  tiles[5](bytes(head.bytes_activations), "", `${bytes(flow)}/s, merges ${bytes(head.bytes_merge)}`);
}
panel($("steps"), drawPhase, ["head", "run"]);
panel($("tiles"), drawTiles, ["head", "recent"]);

// ---- charts: lines over time, with a cross that pointer and arrow keys move

function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((s) => s * power >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step) found.push(value);
  return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

function chart(node, read) {
  // read() -> {series: [{points: [[x, y]], colour, kind}], marks: [[x, label]], x: (x) -> text, y: (y, digits) -> text, empty, zero, tip: (x) -> [text]}
  const svg = make("svg:svg", { role: "img", tabindex: 0 });
  const tip = make("div", { class: "tip", hidden: true });
  node.replaceChildren(svg, tip);
  let frame = null, cross = null, shownAt = null;

  function draw() {
    const width = node.clientWidth, height = node.clientHeight;
    if (!width) return;
    const it = read();
    svg.setAttribute("aria-label", it.label);
    svg.replaceChildren();
    cross = null;
    const all = it.series.flatMap((one) => one.points);
    if (all.length < (it.least ?? 1)) {
      frame = null;
      hide();
      svg.append(make("svg:text", { x: width / 2, y: height / 2, "text-anchor": "middle", class: "empty" }, it.empty));
      return;
    }
    const left = 46, right = 10, top = 10, bottom = 24;
    let [x0, x1] = [Infinity, -Infinity], [y0, y1] = [Infinity, -Infinity];
    for (const [x, y, error = 0] of all) {
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y - error < y0) y0 = y - error;
      if (y + error > y1) y1 = y + error;
    }
    if (it.zero) { y0 = Math.min(0, y0); y1 = Math.max(0, y1); }
    if (x1 === x0) { x0 -= 0.5; x1 += 0.5; } else if (it.pad) { const p = it.pad * (x1 - x0); x0 -= p; x1 += p; }
    const room = 0.06 * (y1 - y0) || 0.5;
    y1 += room;
    if (!it.zero || y0 < 0) y0 -= room;
    const px = (x) => left + ((x - x0) / (x1 - x0)) * (width - left - right);
    const py = (y) => height - bottom - ((y - y0) / (y1 - y0)) * (height - top - bottom);
    const [levels, digits] = ticks(y0, y1, Math.max(2, Math.floor(height / 38)));
    for (const y of levels) {
      svg.append(make("svg:line", { class: "grid", x1: left, x2: width - right, y1: py(y), y2: py(y) }));
      svg.append(make("svg:text", { x: left - 8, y: py(y) + 4, "text-anchor": "end" }, it.y(y, digits)));
    }
    const apart = (width - left - right) / Math.max(1, it.marks?.length ?? 1);
    for (const [i, [x, label]] of (it.marks ?? []).entries()) {
      if (x < x0 || x > x1) continue;
      if (apart > 5) svg.append(make("svg:line", { class: "mark", x1: px(x), x2: px(x), y1: top, y2: height - bottom }));
      if (label && (apart > 34 || i % Math.ceil(34 / apart) === 0) && px(x) < width - 46) svg.append(make("svg:text", { x: px(x) + 4, y: top + 8 }, label));
    }
    const stamps = Math.max(2, Math.floor((width - left) / 120));
    for (let i = 0; i < stamps; i++) {
      const x = it.whole ? Math.round(x0 + ((x1 - x0) * (i + 0.5)) / stamps) : x0 + ((x1 - x0) * i) / (stamps - 1);
      if (it.whole && (i && x === Math.round(x0 + ((x1 - x0) * (i - 0.5)) / stamps))) continue;
      svg.append(make("svg:text", { x: px(x), y: height - 6, "text-anchor": it.whole ? "middle" : i === 0 ? "start" : i === stamps - 1 ? "end" : "middle" }, it.x(x)));
    }
    if (it.zero && y0 < 0) svg.append(make("svg:line", { class: "axis", x1: left, x2: width - right, y1: py(0), y2: py(0) }));
    for (const { points, colour, kind } of it.series) {
      const stroke = `var(${colour})`;
      const d = points.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)},${py(y).toFixed(1)}`).join("");
      if (kind === "area" && points.length) {
        const base = py(Math.max(0, y0)).toFixed(1);
        svg.append(make("svg:path", { d: `${d}L${px(points[points.length - 1][0]).toFixed(1)},${base}L${px(points[0][0]).toFixed(1)},${base}Z`, fill: stroke, opacity: 0.14 }));
      }
      if (kind === "errors")
        for (const [x, y, error] of points)
          svg.append(make("svg:line", { x1: px(x), x2: px(x), y1: py(y - error), y2: py(y + error), stroke, "stroke-width": 1.5, opacity: 0.55 }));
      else svg.append(make("svg:path", { d, class: kind === "faint" ? "faint" : "line", stroke }));
      if (kind === "dots" || kind === "errors")
        for (const [x, y] of points) svg.append(make("svg:circle", { cx: px(x), cy: py(y), r: 3.5, fill: stroke, stroke: "var(--card)", "stroke-width": 1.5 }));
    }
    const sorted = [...new Set(all.map(([x]) => x))].sort((a, b) => a - b);
    frame = { it, px, x0, x1, left, right, top, bottom, width, height, sorted };
    if (shownAt != null) show(frame.sorted[nearest(shownAt)]);
  }

  function show(x) {
    if (!frame) return;
    shownAt = x;
    const { px, top, bottom, width, height, it } = frame;
    cross ??= svg.appendChild(make("svg:line", { class: "cross" }));
    for (const [key, value] of Object.entries({ x1: px(x), x2: px(x), y1: top, y2: height - bottom })) cross.setAttribute(key, value);
    const [title, ...lines] = it.tip(x);
    tip.replaceChildren(make("b", {}, title), ...lines.map((line) => make("div", {}, line)));
    tip.hidden = false;
    const at = px(x) > width / 2 ? px(x) - tip.offsetWidth - 12 : px(x) + 12;
    tip.style.transform = `translate(${Math.max(0, Math.min(width - tip.offsetWidth, at))}px, ${top}px)`;
  }
  function nearest(x) {
    const { sorted } = frame;
    let low = 0, high = sorted.length - 1;
    while (high - low > 1) { const mid = (low + high) >> 1; if (sorted[mid] < x) low = mid; else high = mid; }
    return x - sorted[low] < sorted[high] - x ? low : high;
  }
  function hide() { tip.hidden = true; cross?.remove(); cross = shownAt = null; }
  tip.style.top = tip.style.left = "0";
  svg.addEventListener("pointermove", (event) => {
    if (!frame) return;
    const box = svg.getBoundingClientRect();
    const share = (event.clientX - box.left - frame.left) / (frame.width - frame.left - frame.right);
    show(frame.sorted[nearest(frame.x0 + Math.max(0, Math.min(1, share)) * (frame.x1 - frame.x0))]);
  });
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
    if (!frame || !way) return;
    event.preventDefault();
    const at = shownAt == null ? frame.sorted.length - 1 : nearest(shownAt) + way;
    show(frame.sorted[Math.max(0, Math.min(frame.sorted.length - 1, at))]);
  });
  new ResizeObserver(draw).observe(node);
  return draw;
}

// Forth and back, so that the curve does not lag behind.
function smooth(points, halfLife) {
  const one = (list) => {
    let mean = null, before = 0;
    return list.map(([x, y]) => {
      mean = mean == null ? y : mean + (y - mean) * (1 - 0.5 ** (Math.abs(x - before) / halfLife));
      before = x;
      return [x, mean];
    });
  };
  return one(one(points).reverse()).reverse();
}

// Means over stretches of `width`, zero where nothing was finished.
function stretches(points, from, width) {
  const sums = new Map();
  for (const [at, , rate] of points) {
    const slot = Math.floor(at / width);
    sums.set(slot, (sums.get(slot) ?? 0) + rate * from);
  }
  const slots = [...sums.keys()], found = [];
  for (const [i, slot] of slots.entries()) {
    const gap = i ? slot - slots[i - 1] : 1;
    if (gap > 1) found.push([(slots[i - 1] + 1.5) * width, 0]);
    if (gap > 2) found.push([(slot - 0.5) * width, 0]);
    found.push([(slot + 0.5) * width, sums.get(slot) / width]);
  }
  return found;
}

let range = "all";
for (const [name, label] of [["all", "all"], ["recent", "15 min"]]) {
  $("range").append(make("button", { type: "button", "aria-pressed": String(name === range), onclick(event) {
    range = name;
    for (const button of $("range").children) button.setAttribute("aria-pressed", button === event.currentTarget);
    redrawLoss(); redrawRate();
  } }, label));
}

const closed = () => [...known.epochs.values()].sort((a, b) => a.epoch - b.epoch);
const curve = () => known[range] ?? { width: 1, points: [] };

function marks() {
  return closed().map((epoch) => [epoch.started, `${epoch.epoch + 1}`]);
}

function heldOut(first) {
  const points = closed().filter((e) => e.held_out != null && e.ended).map((e) => [e.ended, e.held_out]);
  const origin = known.epochs.get(0);
  if (origin && known.head.first_held_out != null) points.unshift([origin.started, known.head.first_held_out]);
  return points.filter(([x]) => range === "all" || x >= first);
}

const redrawLoss = panel($("loss"), chart($("loss"), () => {
  const { points, width } = curve();
  const raw = points.map(([at, loss]) => [at + width / 2, loss]);
  const even = smooth(raw, Math.max(2 * width, raw.length ? (raw[raw.length - 1][0] - raw[0][0]) / 100 : 1));
  const held = heldOut(raw.length ? raw[0][0] : 0);
  const newest = held[held.length - 1];
  return {
    series: [{ points: raw, colour: "--accent", kind: "faint" }, { points: even, colour: "--accent" }, { points: held, colour: "--amber", kind: "dots" }],
    marks: marks(), x: clock, y: (y, digits) => num(y, Math.max(1, digits)), empty: "no microbatch has come back yet",
    label: `Loss over time. Training ${num(known.head.loss, 3)}${newest ? `, held-out ${num(newest[1], 3)}` : ""} nats per token.`,
    tip(x) {
      const near = raw.find(([at]) => at === x), soft = even.find(([at]) => at === x), test = held.find(([at]) => at === x);
      return [clock(x), near && `training ${num(near[1], 3)}`, soft && `smoothed ${num(soft[1], 3)}`, test && `held-out ${num(test[1], 3)}`].filter(Boolean);
    },
  };
}), ["all", "recent", "epochs"]);
$("loss-keys").append(key("--accent", "training", true), key("--amber", "held-out"), make("span", { class: "key" }, "┊ epochs"));

function key(colour, label, line) {
  const spot = make("i", { class: line ? "bar" : "" });
  spot.style.background = `var(${colour})`;
  return make("span", { class: "key" }, spot, label);
}

const redrawRate = panel($("rate"), chart($("rate"), () => {
  const { points, width } = curve();
  const span = points.length ? points[points.length - 1][0] - points[0][0] : 0;
  const rates = stretches(points, width, width * Math.max(1, Math.ceil(span / 80 / width))).map(([at, rate]) => [at, rate * known.run.tokens]);
  const top = Math.max(0, ...rates.map(([, y]) => y));
  return {
    series: [{ points: rates, colour: "--blue", kind: "area" }], marks: marks().map(([x]) => [x]), x: clock, y: (y) => amount(y), zero: true,
    empty: "no microbatch has come back yet", label: `Throughput over time, ${amount(pace())} tokens per second now, ${amount(top)} at most.`,
    tip: (x) => [clock(x), `${amount(rates.find(([at]) => at === x)?.[1] ?? 0)} tokens/s`],
  };
}), ["all", "recent", "epochs"]);

// ---- the swarm: stages side by side, miners in them, and microbatches on their way

const swarm = (() => {
  // Two layers: what moves lies under what stands still, so that a frame draws no more than what moves.
  const box = $("map"), [canvas, still] = box.querySelectorAll("canvas"), pen = canvas.getContext("2d"), ink = still.getContext("2d");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const colours = {};
  let spots = new Map(), columns = [], travellers = [], running = false, upright = false, ratio = 1, hover = null, radius = 12, shown = 0;

  function palette() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["--accent", "--amber", "--violet", "--blue", "--bad", "--ok", "--warn", "--off", "--ink", "--dim", "--line", "--card", "--raise", "--grid"])
      colours[name] = style.getPropertyValue(name).trim();
  }

  function layout() {
    const width = box.clientWidth, height = box.clientHeight;
    ratio = Math.min(2, devicePixelRatio || 1);
    for (const one of [canvas, still]) if (one.width !== width * ratio || one.height !== height * ratio) { one.width = width * ratio; one.height = height * ratio; }
    upright = width < 560;
    const count = known.run.stages, long = upright ? height : width, broad = upright ? width : height;
    const head = upright ? 20 : 40, foot = upright ? 0 : 22;
    const seats = Array.from({ length: count }, () => []);
    for (const row of known.rows.values()) if (row.stage >= 0 && row.stage < count) seats[row.stage].push(row);
    const most = Math.max(1, ...seats.map((stage) => stage.length));
    const step = long / count, deep = Math.min(step * 0.62, 190);
    const room = broad - (upright ? 12 : head + foot);
    // As many abreast as let a spot be as large as can be.
    let abreast = 1;
    while (abreast < 40 && deep / (abreast + 1) > room / Math.ceil(most / abreast)) abreast++;
    const cell = Math.min(upright ? (step - head - 8) / abreast : deep / abreast, room / Math.ceil(most / abreast), upright ? 58 : 92);
    radius = Math.max(1.6, Math.min(upright ? 17 : 20, cell * 0.36));
    spots = new Map();
    columns = seats.map((stage, number) => {
      stage.sort((a, b) => a.slot - b.slot || a.number - b.number);
      const lines = Math.ceil(stage.length / abreast), middle = step * (number + 0.5);
      stage.forEach((row, i) => {
        const line = Math.floor(i / abreast), inLine = line === lines - 1 ? stage.length - line * abreast : abreast;
        const across = ((i % abreast) - (inLine - 1) / 2) * cell, along = (line - (lines - 1) / 2) * cell;
        spots.set(row.number, upright ? [6 + room / 2 + along, middle + head / 2 + across] : [middle + across, head + room / 2 + along]);
      });
      return { middle, begin: step * number, seats: stage.length };
    });
    return { width, height, step };
  }

  function draw() {
    if (!box.clientWidth) return;
    palette();
    const { width, height, step } = layout();
    ink.setTransform(ratio, 0, 0, ratio, 0, 0);
    ink.clearRect(0, 0, width, height);
    ink.textAlign = upright ? "left" : "center";
    const face = getComputedStyle(document.body).fontFamily;
    columns.forEach(({ middle, begin }, number) => {
      const stage = known.stages[number];
      if (number) {
        ink.strokeStyle = colours["--grid"]; ink.lineWidth = 1; ink.beginPath();
        if (upright) { ink.moveTo(0, begin); ink.lineTo(width, begin); } else { ink.moveTo(begin, 4); ink.lineTo(begin, height - 4); }
        ink.stroke();
      }
      const [from, to] = known.run.blocks[number];
      const what = to - from === 1 ? `block ${from}` : `blocks ${from} to ${to - 1}`;
      const lines = [`stage ${number}`, stage ? `${what} · ${stageWords(stage)}` : what];
      ink.font = `600 12px ${face}`; ink.fillStyle = colours["--ink"];
      if (upright) {
        ink.fillText(lines[0], 2, begin + 15);
        const wide = ink.measureText(lines[0]).width;
        ink.font = `11px ${face}`; ink.fillStyle = colours["--dim"];
        ink.fillText(lines[1], wide + 10, begin + 15);
      } else {
        ink.fillText(lines[0], middle, 14);
        ink.font = `11px ${face}`; ink.fillStyle = colours["--dim"];
        ink.fillText(step < 150 ? stageWords(stage) : lines[1], middle, 30, step - 8);
      }
      // Shards of a merge that are settled, or replicas that have committed.
      const part = stage?.shards ? stage.settled / stage.shards : stage?.eligible ? stage.commits / stage.eligible : 0;
      if (stage?.eligible && part < 1) {
        const [x, y, w] = upright ? [width - 92, begin + 10, 90] : [middle - 60, height - 8, 120];
        ink.fillStyle = colours["--raise"]; ink.fillRect(x, y, w, 4);
        ink.fillStyle = colours["--violet"]; ink.fillRect(x, y, w * part, 4);
      }
      ink.strokeStyle = colours["--violet"]; ink.lineWidth = radius > 6 ? 1.5 : 0.6; ink.globalAlpha = 0.7;
      for (const [one, other] of stage?.twins ?? []) {
        const a = spots.get(one), b = spots.get(other);
        if (!a || !b) continue;
        const bend = upright ? [0, 26] : [46, 0];
        ink.beginPath(); ink.moveTo(...a); ink.quadraticCurveTo((a[0] + b[0]) / 2 + bend[0], (a[1] + b[1]) / 2 + bend[1], ...b); ink.stroke();
      }
      ink.globalAlpha = 1;
    });
    ink.textAlign = "center"; ink.textBaseline = "middle";
    ink.font = `600 ${Math.round(radius * 0.8)}px ${face}`;
    const groups = {};
    for (const [number, at] of spots) (groups[known.rows.get(number).health] ??= []).push([number, at]);
    for (const [health, members] of Object.entries(groups)) {
      const colour = colours[HEALTH[health]?.[0] ?? "--off"];
      ink.fillStyle = ink.strokeStyle = colour;
      ink.beginPath();
      for (const [, [x, y]] of members) { ink.moveTo(x + radius, y); ink.arc(x, y, radius, 0, 7); }
      if (radius < 7) { ink.fill(); continue; }
      ink.fillStyle = colours["--card"]; ink.fill();
      ink.fillStyle = colour; ink.globalAlpha = health === "working" ? 0.24 : 0.08; ink.fill(); ink.globalAlpha = 1;
      ink.lineWidth = 2; ink.stroke();
      ink.fillStyle = colours["--ink"];
      if (radius > 9) for (const [number, [x, y]] of members) ink.fillText(known.rows.get(number).uid ?? "·", x, y + 0.5);
      if (radius < 18) continue;
      ink.font = `11px ${face}`; ink.fillStyle = colours["--dim"];
      for (const [number, [x, y]] of members) ink.fillText(short(known.rows.get(number).hotkey), x, y + radius + 12);
      ink.font = `600 ${Math.round(radius * 0.8)}px ${face}`;
    }
    ink.textBaseline = "alphabetic";
    shown = serial;
    const states = {};
    for (const row of board) states[row.health] = (states[row.health] ?? 0) + 1;
    put($("map-text"), `${plural(known.run.stages, "stage")}. ` + known.stages.map((s, i) => `Stage ${i}: ${stageWords(s)}`).join(". ") + ". " + Object.entries(states).map(([s, n]) => `${n} ${s}`).join(", "));
    legend(states);
    compose(performance.now());
  }

  function stageWords(stage) {
    if (!stage) return "";
    if (known.head.phase === "reduce" && stage.shards) return `${stage.settled} of ${stage.shards} shards settled`;
    if (known.head.phase === "commit") return `${stage.commits} of ${stage.eligible} committed`;
    if (known.head.phase === "install") return `${stage.installed} of ${stage.members} installed`;
    return `${stage.ready} of ${stage.members} ready`;
  }

  let legendOf = "";
  function legend(states) {
    const names = Object.keys(HEALTH).filter((health) => states[health]);
    if (names.join() === legendOf) return;
    legendOf = names.join();
    $("map-keys").replaceChildren(...names.map((health) => key(HEALTH[health][0], health)), key("--accent", "forward", true), key("--amber", "backward", true));
  }

  // One microbatch: from the first stage to the last with the loss, and back with the gradient.
  function travel(paths) {
    if (calm.matches || document.hidden || !visible) return;
    const now = performance.now(), share = 950 / Math.max(1, paths.length);
    paths.forEach((path, i) => travellers.push({ path, at: now + i * share, life: 1500 }));
    const most = known.rows.size > 200 ? 24 : 48;
    if (travellers.length > most) travellers.splice(0, travellers.length - most);
    if (!running) { running = true; requestAnimationFrame(tick); }
  }

  function tick(now) {
    travellers = travellers.filter((one) => now < one.at + one.life);
    compose(now);
    running = travellers.length > 0 && visible && !document.hidden;
    if (running) requestAnimationFrame(tick);
  }

  function leg(a, b, t) {
    const bend = 0.5 * (upright ? b[1] - a[1] : b[0] - a[0]);
    const c = upright ? [a[0], a[1] + bend] : [a[0] + bend, a[1]], d = upright ? [b[0], b[1] - bend] : [b[0] - bend, b[1]];
    if (t == null) { pen.moveTo(...a); pen.bezierCurveTo(...c, ...d, ...b); return; }
    const u = 1 - t, mix = (i) => u * u * u * a[i] + 3 * u * u * t * c[i] + 3 * u * t * t * d[i] + t * t * t * b[i];
    return [mix(0), mix(1)];
  }

  function compose(now) {
    if (!still.width) return;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.lineCap = "round";
    const dots = { "--accent": [], "--amber": [] };
    for (const { path, at, life } of travellers) {
      const age = (now - at) / life;
      if (age < 0 || age >= 1) continue;
      const stops = path.map((number) => spots.get(number)).filter(Boolean), legs = stops.length - 1;
      if (legs < 0) continue;
      const back = age > 0.5, way = back ? 2 - 2 * age : 2 * age, colour = back ? "--amber" : "--accent";
      pen.strokeStyle = colours[colour]; pen.lineWidth = radius > 6 ? 1.6 : 0.9;
      pen.globalAlpha = 0.55 * Math.min(1, 6 * age, 5 * (1 - age));
      if (legs) {
        const along = Math.min(legs - 1e-6, way * legs), i = Math.floor(along);
        // Of a long way only where it is and where it was.
        const [from, to] = legs <= 4 ? [0, legs] : back ? [i, Math.min(legs, i + 2)] : [Math.max(0, i - 1), i + 1];
        pen.beginPath();
        for (let k = from; k < to; k++) leg(stops[k], stops[k + 1]);
        pen.stroke();
        dots[colour].push(leg(stops[i], stops[i + 1], along - i));
      } else dots[colour].push(stops[0]);
    }
    pen.globalAlpha = 1;
    for (const [colour, places] of Object.entries(dots)) {
      pen.fillStyle = colours[colour];
      pen.beginPath();
      const size = radius > 6 ? 4 : 2.2;
      for (const [x, y] of places) { pen.moveTo(x + size, y); pen.arc(x, y, size, 0, 7); }
      pen.fill();
    }
    const at = hover != null && spots.get(hover);
    if (at) { pen.strokeStyle = colours["--ink"]; pen.lineWidth = 2; pen.beginPath(); pen.arc(...at, radius + 3, 0, 7); pen.stroke(); }
  }

  function under(event) {
    const frame = box.getBoundingClientRect(), x = event.clientX - frame.left, y = event.clientY - frame.top;
    let best = null, least = (radius + 8) ** 2;
    for (const [number, [a, b]] of spots) { const d = (a - x) ** 2 + (b - y) ** 2; if (d < least) [best, least] = [number, d]; }
    return best;
  }
  box.addEventListener("pointermove", (event) => {
    const found = under(event), tip = $("map-tip");
    if (found !== hover) { hover = found; compose(performance.now()); }
    box.style.cursor = found == null ? "" : "pointer";
    tip.hidden = found == null;
    if (found == null) return;
    const row = known.rows.get(found), [x, y] = spots.get(found);
    tip.replaceChildren(make("b", { class: "mono" }, short(row.hotkey)), make("div", {}, `uid ${row.uid ?? "–"}, ${HEALTH[row.health]?.[1] ?? row.health}`),
      make("div", {}, `${plural(row.leases, "lease")}, ${plural(row.done, "pass", "passes")}${row.seconds ? `, ${num(row.seconds, 2)} s each` : ""}`), make("div", {}, `score ${num(row.score, 2)}`));
    tip.style.left = `${Math.max(0, Math.min(box.clientWidth - tip.offsetWidth, x + radius + 10))}px`;
    tip.style.top = `${Math.max(0, Math.min(box.clientHeight - tip.offsetHeight, y - 20))}px`;
  });
  box.addEventListener("pointerleave", () => { hover = null; $("map-tip").hidden = true; compose(performance.now()); });
  box.addEventListener("click", (event) => { const found = under(event); if (found != null) location.hash = `#/miner/${encodeURIComponent(known.rows.get(found).hotkey)}`; });

  let visible = true;
  new IntersectionObserver((seen) => (visible = seen[seen.length - 1].isIntersecting)).observe(box);
  new ResizeObserver(() => known.run && draw()).observe(box);
  return { draw, travel };
})();
const redrawMap = panel($("map"), () => swarm.draw(), ["rows", "gone", "stages"]);

// ---- events

function drawEvents() {
  const list = $("events"), newest = known.events.slice(-80).reverse();
  list.replaceChildren(...newest.map(({ at, text, tone, hotkey }) => {
    const words = make("span");
    // The same links are among the miners: eighty stops for the tab key would be no help.
    if (hotkey) words.append(link(hotkey, -1), " ");
    words.append(text);
    return make("li", { class: tone }, make("time", { datetime: new Date(at * 1000).toISOString() }, clock(at)), words);
  }));
  if (!newest.length) list.append(make("li", {}, make("span"), make("span", { class: "dim" }, "nothing yet")));
}
panel($("events"), drawEvents, ["events"]);

const link = (hotkey, stop) => make("a", { class: "mono", tabindex: stop, href: `#/miner/${encodeURIComponent(hotkey)}`, title: hotkey }, short(hotkey));

// ---- the miners: only the rows in sight exist

const leaderboard = (() => {
  const factor = (value, digits = 2) => (value == null ? ["–", "off"] : value < 0.995 ? [num(value, digits), "poor"] : ["1", ""]);
  const plainly = (text) => [text, text === "–" ? "off" : ""];
  const COLUMNS = [
    { id: "rank", label: "#", width: "34px", from: 0, title: "Rank by score", sort: (row) => (row.rank ? -row.rank : -1e9), cell: (row) => plainly(row.rank ? `${row.rank}` : "–") },
    { id: "hotkey", label: "hotkey", width: "minmax(116px, 1fr)", from: 0, left: true, sort: (row) => row.hotkey },
    { id: "uid", label: "uid", width: "42px", from: 720, sort: (row) => row.uid ?? -1, cell: (row) => plainly(row.uid == null ? "–" : `${row.uid}`) },
    { id: "stage", label: "stage", width: "42px", from: 0, sort: (row) => row.stage, cell: (row) => plainly(row.stage < 0 ? "–" : `${row.stage}`) },
    { id: "state", label: "state", width: "92px", from: 0, left: true, sort: (row) => row.health },
    { id: "done", label: "passes", width: "58px", from: 1160, title: "Passes since it took its seat", sort: (row) => row.done, cell: (row) => plainly(whole.format(row.done)) },
    { id: "seconds", label: "s/pass", width: "52px", from: 1420, title: "Seconds for a pass, as the validator timed them", sort: (row) => row.seconds, cell: (row) => plainly(row.seconds ? num(row.seconds, 2) : "–") },
    { id: "score", label: "score", width: "minmax(96px, 1.3fr)", from: 0, title: "What weights are made from; the bar compares it with the best", sort: (row) => row.score },
    { id: "paid", label: "work", width: "58px", from: 1000, title: "Passes credited in its last closed epoch", sort: (row) => row.paid ?? -1, cell: (row) => plainly(num(row.paid, 1)) },
    { id: "merged", label: "merge", width: "50px", from: 1420, title: "Credited for reducing shards in its last closed epoch", sort: (row) => row.merged ?? -1, cell: (row) => plainly(num(row.merged, 2)) },
    { id: "quality", label: "quality", width: "54px", from: 860, title: "Less than 1 if CLASP found significant harm", sort: (row) => row.quality ?? 2, cell: (row) => factor(row.quality) },
    { id: "agreement", label: "agrees", width: "54px", from: 860, title: "Less than 1 if its reductions differ from most of its twins'", sort: (row) => row.agreement ?? 2, cell: (row) => factor(row.agreement) },
    { id: "audit", label: "audit", width: "48px", from: 860, title: "0 if an audit found fault, or its work was not shown", sort: (row) => row.audit ?? 2, cell: (row) => factor(row.audit, 0) },
    { id: "clasp", label: "CLASP effect", width: "158px", from: 1120, title: "Effect on the loss, nats per token, with its standard error; right of the line is harm", sort: (row) => row.effect ?? -1e9 },
    { id: "audits", label: "audits", width: "58px", from: 1000, title: "Audits in the window: sound, and not", sort: (row) => row.sound - 1e3 * (row.failed + row.withheld),
      cell: (row) => (row.failed + row.withheld ? [`${row.sound} ✓ ${row.failed + row.withheld} ✕`, "poor"] : row.sound ? [`${row.sound} ✓`, ""] : ["–", "off"]) },
    { id: "weight", label: "weight", width: "60px", from: 640, title: "Its part of the weights that the chain took last", sort: (row) => row.weight ?? -1, cell: (row) => plainly(row.weight == null ? "–" : percent(row.weight)) },
    { id: "incentive", label: "incentive", width: "64px", from: 520, title: "What the chain made of the weights", sort: (row) => row.incentive ?? -1, cell: (row) => plainly(row.incentive == null ? "–" : percent(row.incentive)) },
    { id: "emission", label: "emission", width: "66px", from: 760, title: "Alpha per epoch of the chain", sort: (row) => row.emission ?? -1, cell: (row) => plainly(num(row.emission, 2)) },
  ];
  const box = $("board");
  let shown = [], by = "score", down = true, text = "", list = [], pool = [], best = 1, harm = 0.05, height = 38;
  const top = make("div", { role: "rowgroup" });
  const space = make("div", { role: "presentation" });
  const body = make("div", { class: "tbody", role: "rowgroup", tabindex: -1 }, space);
  const none = make("p", { class: "none", hidden: true });
  box.append(top, body, none);

  function columnsFor(width) {
    // On a phone the state is the colour beside the hotkey.
    const wanted = COLUMNS.filter((column) => width >= column.from && !(column.id === "state" && width < 520));
    const needed = () => wanted.reduce((sum, column) => sum + parseInt(column.width.replace("minmax(", ""), 10) + 10, 2);
    while (needed() > width && wanted.some((column) => column.from)) {
      wanted.splice(wanted.indexOf(wanted.reduce((rarest, column) => (column.from > rarest.from ? column : rarest))), 1);
    }
    return wanted;
  }

  function frame() {
    const wanted = columnsFor(box.clientWidth);
    height = parseFloat(getComputedStyle(box).getPropertyValue("--row")) || 38;
    if (wanted.map((c) => c.id).join() === shown.map((c) => c.id).join()) return;
    shown = wanted;
    box.style.setProperty("--columns", shown.map((c) => c.width).join(" "));
    box.setAttribute("aria-colcount", shown.length);
    top.replaceChildren(make("div", { class: "thead", role: "row" }, ...shown.map((column) => make("div", { role: "columnheader", class: column.left ? "" : "r", "data-id": column.id },
      make("button", { type: "button", title: column.title, onclick() { down = by === column.id ? !down : true; by = column.id; draw(); } }, column.label)))));
    for (const line of pool) line.node.remove();
    pool = [];
  }

  function line() {
    const cells = {};
    const node = make("div", { class: "tr", role: "row" }, ...shown.map((column) => {
      const cell = make("div", { role: "cell", class: `td ${column.left ? "" : "r"}` });
      if (column.id === "hotkey") cells.link = cell.appendChild(make("a", { class: "mono" }));
      else if (column.id === "state") cells.state = cell.appendChild(make("span", { class: "state" }));
      else if (column.id === "score") {
        cells.fill = make("i");
        cells.value = make("b");
        cell.append(make("span", { class: "bar" }, cells.value, make("i", {}, cells.fill)));
      } else if (column.id === "clasp") cells.clasp = cell.appendChild(whisker());
      cells[`${column.id} cell`] = cell;
      return cell;
    }));
    body.append(node);
    return { node, cells, index: -1 };
  }

  function fill(one, row, index) {
    one.node.style.transform = `translateY(${index * height}px)`;
    if (one.index !== index) { one.index = index; one.node.setAttribute("aria-rowindex", index + 2); }
    for (const column of shown) {
      const cell = one.cells[`${column.id} cell`];
      if (column.id === "hotkey") {
        const a = one.cells.link;
        put(a, short(row.hotkey));
        if (a.title !== row.hotkey) { a.title = row.hotkey; a.href = `#/miner/${encodeURIComponent(row.hotkey)}`; }
        const narrow = !one.cells.state;
        a.className = narrow ? "mono state" : "mono";
        if (narrow) a.style.setProperty("--health", `var(${HEALTH[row.health]?.[0] ?? "--off"})`);
      } else if (column.id === "state") {
        put(one.cells.state, row.fault && row.health !== "banned" ? `${row.health}, fault` : row.health);
        one.cells.state.style.setProperty("--health", `var(${HEALTH[row.health]?.[0] ?? "--off"})`);
      } else if (column.id === "score") {
        put(one.cells.value, num(row.score, row.score < 1000 ? 1 : 0));
        one.cells.fill.style.transform = `scaleX(${Math.max(0, row.score / best).toFixed(4)})`;
      } else if (column.id === "clasp") bend(one.cells.clasp, row, harm);
      else {
        const [words, kind] = column.cell(row);
        put(cell, words);
        const name = `td ${column.left ? "" : "r"} ${kind}`;
        if (cell.className !== name) cell.className = name;
      }
    }
  }

  function order() {
    const column = COLUMNS.find((c) => c.id === by), wanted = text.trim().toLowerCase();
    list = wanted ? board.filter((row) => row.hotkey.toLowerCase().includes(wanted) || String(row.uid) === wanted || row.health.startsWith(wanted) || `stage ${row.stage}` === wanted) : board.slice();
    const way = (typeof column.sort(list[0] ?? { hotkey: "" }) === "string" ? -1 : 1) * (down ? 1 : -1);
    list.sort((a, b) => { const x = column.sort(a), y = column.sort(b); return x < y ? way : x > y ? -way : a.number - b.number; });
    best = Math.max(1e-9, ...board.map((row) => row.score));
    const errors = board.filter((row) => row.effect != null).map((row) => Math.abs(row.effect) + row.error).sort((a, b) => a - b);
    harm = Math.max(0.01, errors[Math.floor(errors.length * 0.95)] ?? 0);
  }

  function draw() {
    frame();
    order();
    for (const head of top.firstChild.children) if (head.dataset.id === by) head.setAttribute("aria-sort", down ? "descending" : "ascending"); else head.removeAttribute("aria-sort");
    box.setAttribute("aria-rowcount", list.length + 1);
    put($("board-count"), list.length === board.length ? whole.format(board.length) : `${list.length} of ${board.length}`);
    space.style.height = `${list.length * height}px`;
    none.hidden = list.length > 0;
    if (!list.length) put(none, board.length ? "no miner is called that" : "no miner has come yet");
    window_();
  }

  function window_() {
    const first = Math.max(0, Math.floor(body.scrollTop / height) - 4);
    const count = Math.min(list.length - first, Math.ceil((body.clientHeight || 620) / height) + 8);
    // A row that has the focus stays the row of that miner, or the focus would jump with every change of rank.
    while (pool.length < count) pool.push(line());
    while (pool.length > Math.max(0, count)) pool.pop().node.remove();
    const free = new Map(pool.map((one) => [one.row, one]));
    const wanted = list.slice(first, first + count), spare = [];
    const kept = new Set(wanted);
    for (const one of pool) if (!kept.has(one.row)) spare.push(one);
    wanted.forEach((row, i) => {
      const one = free.get(row) ?? spare.pop();
      one.row = row;
      fill(one, row, first + i);
    });
  }

  body.addEventListener("scroll", () => requestAnimationFrame(window_), { passive: true });
  body.addEventListener("keydown", (event) => {
    const at = pool.find((one) => one.node.contains(document.activeElement));
    const way = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -1e9, End: 1e9 }[event.key];
    if (!at || !way) return;
    event.preventDefault();
    const index = Math.max(0, Math.min(list.length - 1, at.index + way)), y = index * height;
    if (y < body.scrollTop) body.scrollTop = y;
    else if (y + height > body.scrollTop + body.clientHeight) body.scrollTop = y + height - body.clientHeight;
    window_();
    pool.find((one) => one.index === index)?.cells.link.focus({ preventScroll: true });
  });
  $("find").addEventListener("input", (event) => { text = event.target.value; body.scrollTop = 0; draw(); });
  new ResizeObserver(() => known.run && draw()).observe(box);
  return { draw };
})();
panel($("board"), () => leaderboard.draw(), ["rows", "gone"]);

function whisker() {
  return make("svg:svg", { class: "whisker", viewBox: "0 0 166 22", "aria-hidden": "true" },
    make("svg:line", { x1: 36, x2: 36, y1: 3, y2: 19, stroke: "var(--line)" }), make("svg:line", { y1: 11, y2: 11, "stroke-width": 1.6 }), make("svg:circle", { cy: 11, r: 3.2 }),
    make("svg:text", { x: 80, y: 15, fill: "var(--ink)", "font-size": 12 }));
}

function bend(svg, row, harm) {
  const [, bar, dot, words] = svg.children, has = row.effect != null && row.samples > 0;
  const text = has ? `${signed(row.effect, 3)} ±${num(row.error, 3).replace(/^0/, "")}` : "–";
  if (words.textContent === text && svg.dataset.harm === String(harm)) return;
  svg.dataset.harm = harm;
  put(words, text);
  bar.style.display = dot.style.display = has ? "" : "none";
  words.setAttribute("fill", has ? "var(--ink)" : "var(--dim)");
  if (!has) return;
  const x = (value) => 36 + Math.max(-34, Math.min(34, (value / harm) * 32));
  const colour = row.quality != null && row.quality < 0.995 ? "var(--bad)" : "var(--accent)";
  bar.setAttribute("x1", x(row.effect - row.error)); bar.setAttribute("x2", x(row.effect + row.error)); bar.setAttribute("stroke", colour);
  dot.setAttribute("cx", x(row.effect)); dot.setAttribute("fill", colour);
}

// ---- agreement and epochs

let matrixStage = 0, matrixAt = "", matrixBusy = false;

async function drawMatrix() {
  const box = $("matrix"), bar = $("matrix-stages");
  if (bar.children.length !== known.run.stages) {
    bar.replaceChildren(...known.run.blocks.map((_, stage) => make("button", { type: "button", onclick() { matrixStage = stage; matrixAt = ""; redrawMatrix(); } }, `stage ${stage}`)));
  }
  [...bar.children].forEach((button, stage) => button.setAttribute("aria-pressed", stage === matrixStage));
  const wanted = `${matrixStage} ${known.head.epoch} ${known.head.phase} ${known.stages[matrixStage]?.members}`;
  if (wanted === matrixAt || matrixBusy) return;
  matrixBusy = true;
  try {
    const found = await fetchJson(`v1/agreement/${matrixStage}`);
    matrixAt = wanted;
    showMatrix(box, found);
  } catch { matrixAt = ""; } finally { matrixBusy = false; }
}

function showMatrix(box, { hotkeys, cells, of }) {
  const count = hotkeys.length;
  if (!count || !cells.length) return box.replaceChildren(make("p", { class: "none" }, "no two of this stage have reduced the same shard yet"));
  const size = Math.max(9, Math.min(34, Math.floor(((box.clientWidth || 500) - 110) / count))), left = 100, top = 4;
  const svg = make("svg:svg", { width: left + count * size + 4, height: top + count * size + 24, role: "img",
    "aria-label": `Agreement of ${count} miners: ${cells.filter(([, , , differed]) => differed).length} of ${cells.length} pairs have differed` });
  const uid = (hotkey) => board.find((row) => row.hotkey === hotkey)?.uid;
  hotkeys.forEach((hotkey, i) => {
    if (size >= 12 || i % 2 === 0) svg.append(make("svg:text", { x: left - 8, y: top + i * size + size / 2 + 4, "text-anchor": "end" }, short(hotkey)));
    if (size >= 18) svg.append(make("svg:text", { x: left + i * size + size / 2, y: top + count * size + 16, "text-anchor": "middle" }, uid(hotkey) == null ? "" : `${uid(hotkey)}`));
    svg.append(make("svg:rect", { x: left + i * size + 1, y: top + i * size + 1, width: size - 2, height: size - 2, rx: 3, fill: "var(--raise)" }));
  });
  for (const [a, b, agreed, differed] of cells) {
    const share = agreed / Math.max(1, agreed + differed);
    for (const [x, y] of [[a, b], [b, a]]) {
      svg.append(make("svg:rect", { x: left + x * size + 1, y: top + y * size + 1, width: size - 2, height: size - 2, rx: 3, fill: differed ? "var(--bad)" : "var(--accent)", opacity: differed ? 0.35 + 0.65 * (1 - share) : 0.75 },
        make("svg:title", {}, `${short(hotkeys[y])} and ${short(hotkeys[x])}: agreed ${agreed}, differed ${differed}`)));
    }
  }
  const more = of > count ? [make("p", { class: "dim" }, `${count} of ${of}: who differed first`)] : [];
  box.replaceChildren(svg, make("div", { class: "keys" }, key("--accent", "always the same bits"), key("--bad", "differed"), key("--raise", "itself")), ...more);
}
const redrawMatrix = panel($("matrix"), drawMatrix, ["head", "stages"]);

function drawEpochs() {
  const newest = closed().reverse().slice(0, 60);
  const head = ["epoch", "batches", "train", "held-out", "merged", "agree", "audits", "weights", "took"];
  const rows = newest.map((e) => {
    const live = e.epoch === known.head.epoch && !e.ended, agree = e.compared ? `${e.compared - e.differed}/${e.compared}` : "–";
    const audits = e.audits ? (e.audits_failed ? `${e.audits}, ${e.audits_failed} ✕` : `${e.audits} ✓`) : "–";
    return make("tr", {}, make("td", {}, `${e.epoch + 1}${live ? " now" : ""}`), make("td", {}, whole.format(e.microbatches)), make("td", {}, num(e.train_loss, 3)),
      make("td", {}, num(e.held_out, 3)), make("td", { class: e.coverage != null && e.coverage < 1 ? "bad" : "" }, e.coverage == null ? "–" : percent(e.coverage, 0)),
      make("td", { class: e.differed ? "bad" : "" }, agree), make("td", { class: e.audits_failed ? "bad" : "" }, audits),
      make("td", { class: e.weights === "refused" ? "bad" : "" }, e.weights || "–"), make("td", {}, e.ended ? duration(e.ended - e.started) : "–"));
  });
  $("epochs").replaceChildren(make("thead", {}, make("tr", {}, ...head.map((label) => make("th", { scope: "col" }, label)))), make("tbody", {}, ...rows));
}
panel($("epochs"), drawEpochs, ["epochs"]);

// ---- one miner

async function fetchJson(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
}

let watched = null, watchedTimer = null, personDraws = [];

function reasons({ row, report }) {
  const standing = row.standing, found = [];
  const say = (tone, text) => found.push(make("li", { class: tone }, make("span", {}, text)));
  if (report.ban) say("bad", `Banned for another ${duration(report.ban.seconds_left)}: ${fromOne(report.ban.reason)}`);
  if (report.place) say("warn", `Waits for a seat: number ${report.place.number} of ${report.place.of} in the line.`);
  for (const fault of report.faults) say("bad", `Caught in epoch ${fault.epoch + 1}: ${fromOne(fault.what)}. The score is 0 for another ${duration(fault.seconds_left)}.`);
  if (report.score > 0) say("good", `Has ${percent(report.share)} of all scores: rank ${report.rank} of ${report.ranked}.`);
  else if (!report.faults.length) say("warn", report.parts.length ? "Its parts come to nothing, see below." : "Nothing is credited yet: an epoch has to close first.");
  const bad = report.parts.filter((part) => part.quality < 0.995 || part.agreement < 0.995 || part.standing < 1);
  if (report.parts.length && !bad.length) say("good", "Nothing is taken off: quality, agreement and audit are 1 in every epoch that counts.");
  for (const part of bad.slice(-4)) {
    const why = [part.quality < 0.995 && `CLASP found harm (quality ${num(part.quality, 2)})`, part.agreement < 0.995 && `its reductions differ from its twins' (agreement ${num(part.agreement, 2)})`,
      part.standing < 1 && "an audit found fault, or its work was not shown (audit 0)"].filter(Boolean);
    say("bad", `Epoch ${part.epoch + 1}: ${why.join("; ")}.`);
  }
  if (report.measured) {
    const m = report.measured;
    say(m.quality < 0.995 ? "bad" : "good", `CLASP, epoch ${m.epoch + 1}: effect on the loss ${signed(m.effect, 3)} ± ${num(m.error, 3)} nats per token over ${plural(m.samples, "microbatch", "microbatches")}; ${m.quality < 0.995 ? "significant harm" : "no significant harm"}.`);
  }
  if (standing.weight != null) say("good", `The validator's weights give it ${percent(standing.weight)} (${report.weights.slice(0, 60)}); the chain makes incentive ${percent(standing.incentive)} and ${num(standing.emission, 2)} alpha an epoch of that.`);
  else say("", report.weights ? `It has no part in the weights that were set last (${report.weights.slice(0, 80)}).` : "The validator has set no weights yet.");
  return found;
}

function showPerson(hotkey, it) {
  const box = $("person"), { row, report } = it, { doing, standing } = row;
  const health = make("span", { class: "state" }, `${doing.health}`);
  health.style.setProperty("--health", `var(${HEALTH[doing.health]?.[0] ?? "--off"})`);
  const fact = (label, value) => make("span", {}, `${label} `, make("b", {}, value));
  const line = make("div", { class: "line" }, make("b", {}, health), doing.stage >= 0 ? fact("stage", `${doing.stage}, slot ${doing.slot}`) : null, standing.uid == null ? null : fact("uid", `${standing.uid}`),
    fact("passes", whole.format(doing.done)), doing.seconds ? fact("per pass", `${num(doing.seconds, 2)} s`) : null, it.stake ? fact("stake", `${num(it.stake, 1)} α`) : null,
    make("span", {}, `now: ${fromOne(report.own)}${report.own_s ? `, ${duration(report.own_s)} at most` : ""}`));
  const copy = make("button", { class: "copy", type: "button", async onclick() { try { await navigator.clipboard.writeText(hotkey); put(copy, "copied"); } catch { put(copy, "select it to copy"); } } }, "copy");
  const parts = report.parts.slice().reverse();
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...["epoch", "work", "+ merge", "× quality", "× agreement", "× audit", "= adds", "counts for"].map((label) => make("th", { scope: "col" }, label)))),
    make("tbody", {}, report.volume ? make("tr", {}, make("td", {}, `${report.epoch + 1} now`), make("td", {}, num(report.volume, 2)), make("td", { colspan: 6, class: "dim" }, "not closed yet")) : null,
      ...parts.map((part) => make("tr", {}, make("td", {}, `${part.epoch + 1}`), make("td", {}, num(part.volume, 2)), make("td", {}, num(part.merged, 2)),
        ...[[part.quality, 3], [part.agreement, 3], [part.standing, 0]].map(([value, digits]) => make("td", { class: value < 0.995 ? "bad" : "" }, num(value, digits))),
        make("td", {}, num((part.volume + part.merged) * part.quality * part.agreement * part.standing, 2)), make("td", {}, duration(part.seconds_left)))),
      report.older ? make("tr", {}, make("td", {}, "older"), make("td", { colspan: 5 }), make("td", {}, num(report.older, 2)), make("td")) : null),
    make("tfoot", {}, make("tr", {}, make("td", { colspan: 6 }, report.faults.length ? "score, while a fault counts" : "score"), make("td", {}, num(report.score, 2)), make("td"))));
  const shareBox = make("div", { class: "chart" }), effectBox = make("div", { class: "chart" });
  const audits = report.audits.slice().reverse().map((audit) => make("tr", {}, make("td", {}, `${audit.epoch + 1}`), make("td", { class: audit.verdict === "sound" ? "good" : "bad" }, audit.verdict), make("td", {}, whole.format(audit.passes)), make("td", { class: "text dim" }, audit.reason)));
  const twins = it.twins.map((twin) => make("tr", {}, make("td", {}, link(twin.hotkey)), make("td", {}, whole.format(twin.agreed)), make("td", { class: twin.differed ? "bad" : "" }, whole.format(twin.differed))));
  const card = (title, small, ...children) => make("section", { class: "card" }, make("div", { class: "head" }, make("h2", {}, title, small ? make("small", {}, small) : null)), ...children);
  const heads = (...labels) => make("thead", {}, make("tr", {}, ...labels.map((label) => make("th", { scope: "col", class: label === "what was found" ? "text" : "" }, label))));
  const focus = document.activeElement?.dataset?.keep;
  box.replaceChildren(
    make("a", { class: "back", href: "#/", "data-keep": "back" }, "← the whole run"),
    make("section", { class: "card who" }, make("h1", { class: "mono" }, hotkey, copy), line),
    make("div", { class: "two" },
      card("Why it is paid what it is paid", "", make("ul", { class: "reasons" }, ...reasons(it)),
        make("p", { class: "formula" }, `score = sum of (work + merge) × quality × agreement × audit over the last ${duration(known.run?.window ?? 600)}; 0 while a fault counts`)),
      card("The parts of its score", "", make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The parts of its score" }, table))),
    make("div", { class: "two" }, card("Share of all scores", "per cent, by epoch", shareBox), card("CLASP effect", "nats per token with its standard error, by epoch; above 0 is harm", effectBox)),
    make("div", { class: "two" },
      card("Audits", "its work computed again", audits.length ? make("div", { class: "scroll" }, make("table", {}, heads("epoch", "verdict", "passes", "what was found"), make("tbody", {}, ...audits))) : make("p", { class: "none" }, "none in the window")),
      card("Twins", "who reduced the same shards", twins.length ? make("div", { class: "scroll" }, make("table", {}, heads("hotkey", "same bits", "differed"), make("tbody", {}, ...twins))) : make("p", { class: "none" }, "has reduced no shard together with anybody yet"))));
  if (focus === "back") box.querySelector("[data-keep]").focus();
  const epochs = (name, error) => it.history.filter((then) => then[name] != null).map((then) => [then.epoch + 1, then[name] * (name === "share" ? 100 : 1), error ? then[error] : 0]);
  const common = { x: (x) => `${x}`, whole: true, zero: true, pad: 0.04 };
  personDraws = [
    chart(shareBox, () => ({ ...common, series: [{ points: epochs("share"), colour: "--accent", kind: "dots" }], y: (y, digits) => num(y, digits), empty: "no epoch has closed yet", label: "Share of all scores by epoch",
      tip: (x) => [`epoch ${x}`, `${num(epochs("share").find(([at]) => at === x)?.[1], 1)} %`] })),
    chart(effectBox, () => ({ ...common, series: [{ points: epochs("effect", "error"), colour: "--amber", kind: "errors" }], y: (y, digits) => num(y, digits), empty: "CLASP has said nothing yet", label: "CLASP effect by epoch",
      tip: (x) => { const p = epochs("effect", "error").find(([at]) => at === x); return [`epoch ${x}`, `${signed(p[1], 3)} ± ${num(p[2], 3)}`]; } })),
  ];
  personDraws.forEach((draw) => draw());
}

async function look() {
  const hotkey = watched;
  clearTimeout(watchedTimer);
  if (!hotkey) return;
  try {
    const it = await fetchJson(`v1/miners/${encodeURIComponent(hotkey)}`);
    if (watched === hotkey) showPerson(hotkey, it);
  } catch (error) {
    if (watched === hotkey && (error.message === "404" || !$("person").firstChild))
      $("person").replaceChildren(make("a", { class: "back", href: "#/" }, "← the whole run"), make("section", { class: "card who" }, make("h1", { class: "mono" }, hotkey),
        make("p", { class: "none" }, error.message === "404" ? "This validator knows nothing of this hotkey in the present window." : "The validator does not answer; this is tried again.")));
  }
  if (watched === hotkey) watchedTimer = setTimeout(look, 4000);
}

function route() {
  const [, where, name] = location.hash.split("/");
  let hotkey = null;
  try { hotkey = where === "miner" && name ? decodeURIComponent(name) : null; } catch { hotkey = name; }
  const before = watched;
  watched = hotkey;
  $("overview").hidden = hotkey != null;
  $("person").hidden = hotkey == null;
  if (hotkey != null && hotkey !== before) { $("person").replaceChildren(); scrollTo(0, 0); $("main").focus({ preventScroll: true }); look(); }
  if (hotkey == null) { clearTimeout(watchedTimer); ask(); }
}
addEventListener("hashchange", route);

// ---- dark and light

const root = document.documentElement;
try { const kept = localStorage.getItem("iota-theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch { /* no storage: the system's choice */ }
$("theme").addEventListener("click", () => {
  const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  try { localStorage.setItem("iota-theme", root.dataset.theme); } catch { /* for this visit only */ }
  redrawMap();
});
matchMedia("(prefers-color-scheme: light)").addEventListener("change", () => redrawMap());

// ---- the stream

function live(state, words) {
  $("live").className = `live ${state}`;
  put($("live").lastElementChild, words);
}

function listen() {
  const stream = new EventSource("v1/stream");
  let heard = 0;
  stream.onmessage = (event) => { heard = Date.now(); live("on", "live"); take(JSON.parse(event.data)); };
  stream.onerror = () => {
    live("off", "validator away");
    // After a refusal a browser gives up; a validator that was full, or is back, is worth another try.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
}

// For the checks of this page (scripts/page_checks.py), and for who is curious.
window.iota = { known, take };

route();
listen();
