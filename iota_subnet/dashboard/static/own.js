// A miner's own page: its status document (docs/status.md), looked at every two seconds. All of it is put in as text.

const $ = (id) => document.getElementById(id);

function make(tag, attrs = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attrs)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child != null));
  return node;
}

const num = (value, digits = 0) => (value == null ? "–" : value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const percent = (share) => (share == null ? "–" : `${num(100 * share, 0)} %`);
const ago = (s) => (s < 100 ? `${num(s)} s` : s < 6000 ? `${num(s / 60)} min` : `${num(s / 3600, 1)} h`);

function table(id, heads, rows, empty) {
  const head = make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text))));
  const body = rows.map((cells) => make("tr", {}, ...cells.map((cell) => (Array.isArray(cell) ? make("td", { class: cell[1] }, cell[0]) : make("td", {}, cell)))));
  $(id).replaceChildren(head, make("tbody", {}, ...(rows.length ? body : [make("tr", {}, make("td", { class: "dim" }, empty))])));
}

const TONES = { accepted: "good", refused: "bad", failed: "bad", late: "warn" };

function show(own) {
  const standing = own.standing, seat = standing?.seat;
  $("name").textContent = own.run || "miner";
  $("facts").textContent = `subnet ${own.netuid}  ·  ${own.wallet}/${own.wallet_hotkey}`;
  $("hotkey").textContent = own.hotkey;
  document.title = `${own.wallet_hotkey}: ${own.now || own.state}`;
  const fact = (label, value) => make("span", {}, `${label} `, make("b", {}, value));
  $("line").replaceChildren(...[
    fact("now", (own.now || own.state) + (own.now_s ? `, ${ago(own.now_s)} at most` : "")),
    seat ? fact("seat", `stage ${seat.stage}, slot ${seat.slot}`) : fact("seat", standing?.place ? `number ${standing.place.number} of ${standing.place.of} in the line` : "none"),
    standing ? fact("run", `epoch ${standing.epoch + 1}${standing.epochs ? ` of ${standing.epochs}` : ""}, ${standing.phase}: ${standing.waiting_for}`) : null,
    standing?.ban ? make("span", { class: "bad" }, `banned: ${standing.ban.reason}`) : null,
    ...(standing?.faults ?? []).map((fault) => make("span", { class: "bad" }, `fault: ${fault.what}`)),
    own.standing_trouble ? make("span", { class: "warn" }, own.standing_trouble) : null,
  ].filter(Boolean));
  const tile = (label, value, note) => make("div", { class: "tile" }, make("span", {}, label), make("b", {}, value), make("span", {}, note));
  $("tiles").replaceChildren(
    tile("Share of all scores", standing ? percent(standing.share) : "–", standing?.rank ? `rank ${standing.rank} of ${standing.ranked}` : "no score yet"),
    tile("Leases done", num(own.leases_done), `${own.leases.length} in hand`),
    tile("Computing", percent(own.compute_share), "of the time since the first epoch"),
    tile("Only fetching", percent(own.fetch_share), "what computing did not hide"),
    tile("Idle", percent(own.idle_share), "nothing was given to do"),
    tile("Weights", standing?.weights ? (standing.weights.startsWith("block") ? "set" : "refused") : "–", standing?.weights ? `epoch ${standing.weights_epoch + 1}: ${standing.weights}` : "none set yet"));
  table("work", ["ago", "lease", "step", "microbatch", "epoch", "computed", "outcome"], (own.receipts ?? []).map((r) => [ago(r.ago_s ?? 0), `${r.lease}`, r.op ?? "", `${r.batch ?? ""}`, r.epoch == null ? "" : `${r.epoch + 1}`,
    r.seconds == null ? "" : `${num(r.seconds, 2)} s`, [r.reason ? `${r.outcome}: ${r.reason}` : r.outcome, TONES[r.outcome] ?? "dim"]]), "nothing yet");
  const parts = (standing?.parts ?? []).slice().reverse();
  table("score", ["epoch", "work", "merge", "quality", "agreement", "audit", "counts for"], parts.map((p) => [`${p.epoch + 1}`, num(p.volume, 2), num(p.merged, 2),
    ...[p.quality, p.agreement, p.standing].map((value) => [num(value, 2), value < 0.995 ? "bad" : ""]), ago(p.seconds_left)]), "no epoch has closed yet");
}

async function look() {
  try {
    const answer = await fetch("v1/own");
    show(await answer.json());
    $("live").className = "live on";
    $("live").lastElementChild.textContent = "live";
  } catch {
    $("live").className = "live off";
    $("live").lastElementChild.textContent = "the miner does not run";
  }
  setTimeout(look, 2000);
}
look();
