"use strict";
// The page on live data: one stream brings all there is, and then what changes, each second. Text enters by textContent only;
// there is no inline style or script, and nothing is asked of any other host. A wish is never shown as a fact.

const $ = (id) => document.getElementById(id);
const build = (el, attrs, kids) => {
  for (const [k, v] of Object.entries(attrs || {})) {
    if (k.startsWith("on")) el.addEventListener(k.slice(2), v);
    else if (v !== false && v != null) el.setAttribute(k, v === true ? "" : v);
  }
  el.append(...kids.flat(9).filter((k) => k != null && k !== false));
  return el;
};
const h = (tag, attrs, ...kids) => build(document.createElement(tag), attrs, kids);
const s = (tag, attrs, ...kids) => build(document.createElementNS("http://www.w3.org/2000/svg", tag), attrs, kids);
const say = (el, text) => { if (el.textContent !== text) el.textContent = text; };

// ---- words and numbers
const DASH = "–";
const num = (v, d = 0) => v == null ? DASH : v.toLocaleString("en-US", { minimumFractionDigits: d, maximumFractionDigits: d });
const ms = (v) => v == null ? DASH : v >= 1000 ? num(v / 1000, 2) + " s" : num(v, v < 10 ? 1 : 0) + " ms";
const bytes = (v) => v == null ? DASH : v >= 1e9 ? num(v / 1e9, 1) + " GB" : v >= 1e6 ? num(v / 1e6, 1) + " MB" : v >= 1000 ? num(v / 1000) + " kB" : num(v) + " B";
const dur = (t) => t < 100 ? Math.max(0, Math.round(t)) + " s" : t < 6000 ? Math.round(t / 60) + " min" : t < 172800 ? Math.round(t / 3600) + " h" : Math.round(t / 86400) + " d";
const clock = (t) => new Date(t * 1000).toISOString().slice(11, 19);
const count = (n, one) => n + " " + one + (n === 1 ? "" : "s");
const list = (a) => a.length < 3 ? a.join(" and ") : a.slice(0, -1).join(", ") + " and " + a[a.length - 1];
const sum = (a, f) => a.reduce((n, x) => n + (f(x) || 0), 0);

// ---- signs: each state is a shape and a word, and never a colour alone
const KIND = { "slow start": "slow", drained: "drain", full: "limit", "weight 0": "weight", standby: "unknown", "drained by its agent": "drain", "in maintenance by its agent": "maint", "down by its agent": "down", busy: "limit" };
const TONE = { limit: "s-slow", weight: "s-drain", reload: "", file: "" };
const EVENT = { agent: "drain", agent_garbled: "warn", up: "ready", returned: "ready", recovered: "ready", exhausted: "down", levels: "warn", panic: "warn", panic_over: "ready", cut: "warn", added: "file", removed: "file", changed: "weight", limit_spared: "limit", reset: "reload", upgrade: "reload", leak: "warn", policy_failed: "warn", policy_handed_over: "warn", policy_taken_back: "ready" };
const kindOf = (state) => KIND[state] || state;
const toneOf = (kind) => TONE[kind] ?? "s-" + kind;
const known = (kind) => $("g-" + kind) ? kind : "unknown";
const glyph = (kind, tone = toneOf(kind)) => s("svg", { class: "g " + tone, "aria-hidden": "true" }, s("use", { href: "#g-" + known(kind) }));
const became = (text) => text.split(": “")[0].split("→ ").pop(); // "drain" of "ready → drain: “deploy”"
const eventWord = (e) => e.kind === "admin" ? became(e.text) : e.kind;
const signOf = (e) => EVENT[eventWord(e)] || eventWord(e);
const anchor = (name) => h("a", { href: "#b-" + encodeURI(name) }, name);
const where = (name) => D.backends.has(name) ? anchor(name) : name;

// ---- state
const D = { status: null, backends: new Map(), history: null, long: null, events: [], marks: [], config: [], sparks: {}, scope: "read", actor: "", api: {}, plan: null, wishes: new Map() };
let link = "waiting", problem = null, token = "", news = 0, heard = 0, view = { span: 900, end: null }, cross = null, asking = null;
const picked = new Set();
const pools = () => D.status ? D.status.pools : [];
const rowsOf = () => tables.flatMap((t) => t.rows);
const now = () => D.status ? D.status.now + (link === "live" ? Math.min(2, (performance.now() - heard) / 1000) : 0) : 0;
const changing = () => D.scope === "change";
const headers = (more) => ({ Accept: "application/json", ...(token ? { Authorization: "Bearer " + token } : {}), ...more });
async function ask(path, method = "GET", body) {
  const more = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(path, { method, headers: headers(more), body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store" });
  const value = await answer.json().catch(() => ({ detail: `${answer.status} ${answer.statusText}` }));
  if (!answer.ok) throw Object.assign(new Error(value.detail || value.title), value, { status: answer.status });
  return value;
}
const pathOf = (b) => `v1/backends/${encodeURIComponent(b.pool)}/${encodeURIComponent(b.backend)}`;

// ---- the stream
let stream = null, again = null;
function leave() { clearTimeout(again); if (stream) { stream.abort(); stream = null; } }
async function listen() {
  leave();
  const mine = stream = new AbortController();
  try {
    const answer = await fetch("v1/stream", { headers: headers({ Accept: "text/event-stream" }), signal: mine.signal, cache: "no-store" });
    if (!answer.ok) throw Object.assign(new Error("refused"), { status: answer.status }, await answer.json().catch(() => ({})));
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let held = ""; ;) {
      const { value, done } = await reader.read();
      if (done) break;
      const parts = (held + value).split("\n\n");
      held = parts.pop();
      if (mine !== stream) return;
      news = performance.now();
      parts.forEach(take);
    }
  } catch (error) {
    if (mine !== stream) return;
    if (error.status) { problem = error; setLink("error"); }
  }
  if (mine !== stream) return;
  if (link !== "error") setLink("stale");
  if (!problem || problem.status >= 500) again = setTimeout(listen, 1000);
}
function take(text) {
  const event = /^event: (.*)$/m.exec(text), data = /^data: (.*)$/m.exec(text);
  if (!event || !data) return;
  const value = JSON.parse(data[1]);
  heard = performance.now();
  if (event[1] === "snapshot") snapshot(value); else if (event[1] === "delta") delta(value);
  problem = null;
  if (link !== "live" && link !== "paused") setLink("live"); else later();
}
function snapshot(v) {
  const before = shape();
  D.status = v.status; D.history = v.history; D.long = null; D.events = v.events; D.marks = v.history.marks; D.sparks = v.sparks; D.scope = v.scope; D.actor = v.actor;
  D.config = v.config;
  D.backends = new Map(pools().flatMap((p) => p.backends.map((b) => [b.name, b])));
  for (const name of [...picked]) if (!D.backends.has(name)) picked.delete(name);
  settle();
  if (before !== shape()) makeTables(); else for (const r of rowsOf()) { r.b = D.backends.get(r.b.name); r.p = pools().find((p) => p.name === r.b.pool); }
  for (const t of tables) t.p = pools().find((p) => p.name === t.p.name);
  bulk(); slow(); marks(); followFile();
}
const shape = () => D.status ? JSON.stringify([D.scope, pools().map((p) => [p.name, p.backends.map((b) => b.name)])]) : "";
function delta(v) {
  const file = JSON.stringify(D.status.file), generation = D.status.generation;
  Object.assign(D.status, v.status);
  for (const p of pools()) Object.assign(p, v.pools[p.name]);
  for (const [name, more] of Object.entries(v.backends)) Object.assign(D.backends.get(name), more);
  if (v.history) append(v.history);
  for (const [name, value] of Object.entries(v.sparks)) { const a = D.sparks[name] ||= Array(60).fill(null); a.push(value); if (a.length > 60) a.shift(); }
  if (v.events) { D.events.push(...v.events); D.events.splice(0, D.events.length - 50); }
  if (v.marks && v.marks.length) { D.marks.push(...v.marks); D.marks.splice(0, D.marks.length - 200); marks(); }
  if (v.config) D.config = v.config;
  settle();
  if (v.events || v.config || v.status.changes || v.status.routes || v.status.warnings) slow();
  if (file !== JSON.stringify(D.status.file) || generation !== D.status.generation) followFile();
}
function append(more) { // the history of this window goes on; seconds that nobody knows stay empty
  const H = D.history, at = Math.round(more.start - H.start);
  let length = lengthOf(H);
  for (const [name, values] of Object.entries(more.series)) {
    const a = H.series[name] ||= Array(length).fill(null);
    values.forEach((v, i) => { while (a.length < at + i) a.push(null); a[at + i] = v; });
  }
  length = lengthOf(H);
  for (const a of Object.values(H.series)) { while (a.length < length) a.push(null); a.splice(0, length - 900); }
  H.start += Math.max(0, length - 900);
}
function settle() { // a wish ends by the server's word
  for (const [name, wish] of D.wishes) { const b = D.backends.get(name); if (!b || wish.met(b)) D.wishes.delete(name); }
}
let due = false;
function later() { if (!due) { due = true; requestAnimationFrame(() => { due = false; draw(); }); } }
function draw() { if (D.status) { bar(); update(); listeners(); workers(); drawAll(); } }

// ---- bar, verdict, favicon
const LEVEL = { well: "ready", partly: "warn", failing: "down" };
let spoken = "";
function bar() {
  const S = D.status, old = link === "stale" || link === "error", k = LEVEL[S.verdict.level], shown = old ? "unknown" : k;
  const tone = shown === "warn" ? "s-slow" : "s-" + shown, head = old ? `As of ${clock(S.now)}: ${S.verdict.text}` : S.verdict.text, items = S.verdict.clauses;
  const key = JSON.stringify([old ? 0 : 1, k, head, items.map((i) => [i.subject, i.state])]);
  if (key !== spoken) { // the live region speaks when a state changes, and not when a countdown counts
    spoken = key;
    say($("vhead"), head);
    $("vlist").replaceChildren(...items.map((i) => h("li", null, glyph(kindOf(i.state)), h("span", null, anchor(i.subject), h("span", null, ` ${i.is} (${i.text})`)))));
  } else items.forEach((i, n) => say($("vlist").children[n].querySelector("span > span"), ` ${i.is} (${i.text})`));
  for (const id of ["vglyph", "brand"]) if ($(id).getAttribute("href") !== "#g-" + shown) { $(id).setAttribute("href", "#g-" + shown); $(id).parentNode.setAttribute("class", `g ${id === "vglyph" ? "big " : ""}${tone}`); }
  icon(shown);
  const title = `${old ? "? " : { ready: "", warn: "△ ", down: "✕ " }[k]}${S.name} · twisted_lb`;
  if (document.title !== title) document.title = title;
  const f = $("facts");
  if (!f.dataset.made) { f.dataset.made = "1"; f.replaceChildren(h("span", null, h("b")), h("span"), h("span"), h("span", { class: "note" }, h("a", { href: "#diff" })), h("span", null, h("a", { href: "#workers" }))); say($("name"), S.name); say($("version"), `twisted_lb ${S.version} (${S.build}), pid ${S.pid}`); }
  const stale = S.file && S.file.changed_at != null;
  say(f.children[0].firstChild, S.ready ? "ready" : "not ready"); f.children[0].title = S.ready_text; say(f.children[1], "up " + dur(now() - S.began)); say(f.children[2], "generation " + S.generation);
  f.children[3].hidden = !stale; f.children[4].hidden = !S.workers.length; say(f.children[4].firstChild, serving());
  if (stale) say(f.children[3].firstChild, `${S.file.changed} changed ${dur(now() - S.file.changed_at)} ago, not loaded`);
  linkWord();
  say($("pause"), link === "paused" ? "Go on" : "Pause");
}
function linkWord() {
  say($("linkword"), { live: "live", waiting: "asking", paused: "paused at " + clock(now()), stale: `no news for ${dur((performance.now() - news) / 1000)}`, error: "cannot read" }[link]);
}
let iconed = "";
function icon(shown) { // colour and shape
  if (iconed === shown) return;
  iconed = shown;
  const color = { ready: "#009e73", warn: "#e69f00", down: "#d55e00", unknown: "#8a939c" }[shown];
  $("icon").href = "data:image/svg+xml," + encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="1 1 14 14" color="${color}">${$("g-" + shown).innerHTML}</svg>`);
}
function setLink(to) {
  link = to;
  document.body.className = { error: "broken", stale: "stale", paused: "paused" }[to] || "";
  const banner = $("banner"), refused = to === "error" && problem;
  banner.hidden = !refused;
  if (refused) banner.replaceChildren(glyph("down"), h("span", null, h("b", null, `This balancer does not answer the page: ${problem.status}, ${problem.detail || "no reason given"}. `), problem.status === 401 ? "Tokens are those of [admin] in its configuration; without one the first is in its log." : problem.hint || ""),
    problem.status === 401 ? h("button", { type: "button", onclick: askToken }, "Token…") : h("button", { type: "button", onclick: listen }, "Try again"));
  $("token").hidden = changing() || to === "waiting";
  linkWord();
  later();
}

// ---- backends
const meter = (part, high, aim) => s("svg", { class: "meter", "aria-hidden": "true" }, s("rect", { class: "track", width: "100%", height: 7, rx: 2 }),
  s("rect", { class: high ? "fill high" : "fill", width: Math.min(100, part || 0) + "%", height: 7, rx: 2 }), aim != null && s("rect", { class: "aim", x: `${Math.min(99, aim)}%`, width: 2, height: 7 }));
function spark(a) {
  if (!a || !a.some((v) => v != null)) return null;
  const top = Math.max(...a.filter((v) => v != null), 1) * 1.1, x = (i) => (i / (a.length - 1) * 70 + 1).toFixed(1), y = (v) => (21 - v / top * 19).toFixed(1);
  let d = "", area = "", pen = false, from = 0;
  const close = (i) => { area += `L${x(i)} 22L${x(from)} 22Z`; };
  a.forEach((v, i) => {
    if (v == null) { if (pen) close(i - 1); pen = false; return; }
    if (!pen) from = i;
    area += `${pen ? "L" : "M"}${x(i)} ${y(v)}`; d += `${pen ? "L" : "M"}${x(i)} ${y(v)}`; pen = true;
  });
  if (pen) close(a.length - 1);
  const end = a[a.length - 1];
  return s("svg", { class: "spark", viewBox: "0 0 74 22", "aria-hidden": "true", preserveAspectRatio: "none" }, s("path", { class: "area", d: area }), s("path", { d }), end != null && s("circle", { class: "end", cx: x(a.length - 1), cy: y(end), r: 1.8 }));
}
const labelsOf = (b) => Object.entries(b.labels).map(([k, v]) => `${k} ${v}`).join(", ");
const levelOf = (b) => b.level == null ? "backup" : `level ${b.level}`;
const levelsOf = (p) => [p.levels.map((l) => `${levelOf(l)}${l.level == null ? "s" : ""} ${l.share} %`).join(", "), p.panic ? "in panic" : ""].filter(Boolean).map((x) => " · " + x).join("");
const placeOf = (b, p) => [b.address, p.levels.length ? levelOf(b) : "", labelsOf(b)].filter(Boolean).join(" · ");
const running = (b) => b.in_flight - b.tunnels;
const SPEAKS = { h1: "", h2: " · HTTP/2 to backends", auto: " · HTTP/2 to backends that take it" };
const SPOKEN = { h1: "HTTP/1.1", h2: "HTTP/2" }, some = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
function wiresOf({ http1, http2, calls, chose }) { // the connections that calls share, and what the backend took, where it has the choice: in short, and in full
  if (!http2 && !chose) return ["", ""];
  const said = [http2 && `${some(calls, "call")} on ${some(http2, "connection")} of HTTP/2`, http1 && `${some(http1, "connection")} of HTTP/1.1`, chose && `it took ${SPOKEN[chose]} (ALPN)`];
  return [http2 ? `HTTP/2: ${http2}` : http1 ? `HTTP/1.1: ${http1}` : SPOKEN[chose], said.filter(Boolean).join(", ")];
}
// Both are of the last minute only where nothing has changed in it.
const calm = (p) => p.backends.every((b) => now() - b.since > 60);
const off = (b, p) => b.intended && b.share != null && p.rate > 5 && calm(p) && Math.abs(b.share - b.intended) > Math.max(.5, b.intended * .08);
const ORDER = ["down", "ejected", "unknown", "maint", "drain", "weight", "limit", "slow", "ready"];
// [class, head, for sorting, key (unchanged: the cell is left alone, with its focus), content, number]
const COLS = [
  ["name", "Backend", (b) => b.backend, placeOf, (b, p) => { const place = placeOf(b, p); return [b.backend, h("small", { title: place }, place)]; }],
  ["state", "State", (b) => ORDER.indexOf(kindOf(b.state)), (b) => [b.state, dur(now() - b.since), b.reason, D.wishes.has(b.name) && D.wishes.get(b.name).text].join("|"), (b) => {
    const k = kindOf(b.state), wish = D.wishes.get(b.name);
    return [glyph(k), h(b.state === "ready" ? "span" : "b", { class: toneOf(k) }, b.state), " for " + dur(now() - b.since), wish ? h("small", { class: "wish" }, wish.text) : h("small", { title: b.reason }, b.reason)]; }],
  ["weight", "Weight", (b) => -b.weight_effective, (b) => b.weight + "," + b.weight_effective, (b) => [String(b.weight), b.weight_effective !== b.weight && h("small", null, "now " + num(b.weight_effective, b.weight_effective % 1 ? 1 : 0))]],
  ["flight", "In flight", (b) => -(b.limit ? b.in_flight / b.limit : b.in_flight / 1e6), (b) => [b.in_flight, b.limit, b.tunnels, b.limit_why, wiresOf(b.connections)] + "", (b) => {
    const hot = b.limit && b.in_flight >= b.limit * .9, [wires, all] = wiresOf(b.connections);
    return [h("span", { class: hot ? "hot" : b.in_flight ? "" : "zero", title: b.limit_why || null }, b.limit ? `${running(b)} / ${b.limit}` : String(running(b))), b.tunnels ? [` + ${b.tunnels} `, h("span", { class: "long" }, b.tunnels > 1 ? "tunnels" : "tunnel"), h("span", { class: "short", "aria-hidden": "true" }, "⇄")] : "", hot && !b.tunnels && " full", b.limit ? meter(100 * b.in_flight / b.limit, hot) : "", wires && h("small", { title: all }, wires)]; }],
  ["rate", "Req/s, reuse", (b) => -b.rate, (b) => [num(b.rate, 1), b.reuse] + "", (b) => [h("span", { class: b.rate ? "" : "zero" }, num(b.rate, 1)), h("small", null, b.reuse == null ? DASH : num(b.reuse * 100) + " %")], "n"],
  ["share", "Share is / meant", (b) => -b.share, (b, p) => [num(b.share, 1), num(b.intended, 1), off(b, p)] + "", (b, p) => {
    const wrong = off(b, p), less = b.share < b.intended;
    return [h("span", { class: wrong ? "hot" : b.share ? "" : "zero" }, num(b.share, 1)), ` / ${num(b.intended, 1)} %`, wrong && (less ? " ▼" : " ▲"), wrong && h("span", { class: "sr" }, less ? " less than meant" : " more than meant"), meter((b.share || 0) * p.scale, false, b.intended ? b.intended * p.scale : null)]; }],
  ["err", "Err 1 m", (b) => -b.errors_60s, (b) => String(b.errors_60s), (b) => [h("span", { class: b.errors_60s > 4 ? "hot" : b.errors_60s ? "" : "zero" }, num(b.errors_60s))], "n"],
  ["p50", "p50", (b) => -(b.p50_ms || 0), (b) => ms(b.p50_ms), (b) => [ms(b.p50_ms)], "n"],
  ["p99", "p99, last minute", (b) => -(b.p99_ms || 0), (b) => b.p99_ms + "," + D.sparks[b.name], (b) => [h("span", { class: "v" }, ms(b.p99_ms)), spark(D.sparks[b.name])]],
];
const tables = [];
function makeTables() {
  tables.length = 0;
  $("tables").replaceChildren(...pools().map((p) => {
    const body = h("tbody"), t = { p, body, rows: p.backends.map((b) => row(p, b)), summary: h("span"), facts: h("span") };
    const sortBy = (e, key) => {
      const th = e.currentTarget.parentNode, dir = th.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const o of th.parentNode.children) o.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", dir > 0 ? "ascending" : "descending"); // on a click only: rows never move by themselves
      body.append(...[...t.rows].sort((x, y) => { const a = key(x.b), c = key(y.b); return dir * (typeof a === "string" ? a.localeCompare(c, "en", { numeric: true }) : a - c); }).map((r) => r.tr));
    };
    const everyone = h("input", { type: "checkbox", "aria-label": `Select all of ${p.name}`, onchange: (e) => { for (const r of t.rows) if (!r.tr.hidden) pick(r, e.target.checked); bulk(); } });
    body.append(...t.rows.map((r) => r.tr));
    tables.push(t);
    return h("div", { class: "pool" }, h("div", { class: "scroll" }, h("table", null, h("caption", null, p.name, t.summary, t.facts),
      h("thead", null, h("tr", null, changing() && h("td", { class: "w-pick" }, everyone), COLS.map(([c, head, key, , , n]) => h("th", { scope: "col", class: `w-${c} ${n || ""}` }, h("button", { type: "button", onclick: (e) => sortBy(e, key) }, head))),
        h("th", { scope: "col", class: "w-check" }, "Last check"), changing() && h("th", { scope: "col", class: "w-act" }, h("span", { class: "sr" }, "Action")))), body)));
  }));
}
const pick = (r, on) => { r.box.checked = on; if (on) picked.add(r.b.name); else picked.delete(r.b.name); };
function row(p, b) {
  const r = { p, b, keys: [], tr: h("tr", { id: "b-" + b.name, tabindex: -1 }) };
  r.box = h("input", { type: "checkbox", "aria-label": "Select " + b.name, onchange: (e) => { pick(r, e.target.checked); bulk(); } });
  r.box.checked = picked.has(b.name);
  r.cells = COLS.map(([c, head, , , , n]) => c === "name" ? h("th", { scope: "row" }) : h("td", { class: `${c === "state" ? "state" : "c-" + c} ${n || ""}`, "data-l": c === "state" ? null : head }));
  r.check = h("button", { type: "button", class: "checks", onclick: () => checksOf(r.b) }, h("span"), h("span", { class: "sr" }, ` last checks of ${b.name}`));
  r.ago = h("small");
  r.act = h("button", { type: "button", onclick: () => decide(r.b.admin === "ready" ? "drain" : "ready", [r]) });
  r.tr.append(...(changing() ? [h("td", null, r.box)] : []), ...r.cells, h("td", { class: "c-check", "data-l": "Last check" }, r.check, r.ago), ...(changing() ? [h("td", { class: "act-cell" }, r.act)] : []));
  return r;
}
const bad = (b) => b.state !== "ready" && b.state !== "standby" || b.errors_60s > 4;
const still = () => link === "live"; // with no news, what would be acted upon is not what is there
function update() {
  const words = $("filter").value.toLowerCase().split(/\s+/), problems = $("problems").checked;
  for (const t of tables) {
    const p = t.p, n = p.usable, of = p.backends.length, standing = p.backends.filter((b) => b.state === "standby").length, used = n - standing;
    p.scale = Math.min(2, 95 / Math.max(1, ...p.backends.map((b) => Math.max(b.share || 0, b.intended || 0))));
    const awaited = !n && p.backends.some((b) => b.state === "unknown"); // as at a start
    const tone = !n && !awaited ? "s-down" : n < of ? "s-slow" : "s-ready";
    if (t.summary.className !== tone) t.summary.className = tone;
    say(t.summary, !n ? awaited ? "waits for a first check" : "answers nothing" : (used === of ? `all ${of} used` : `${used} of ${of} used`) + (standing ? `, ${standing} ${standing === 1 ? "stands" : "stand"} by` : ""));
    say(t.facts, `${p.policy}${SPEAKS[p.protocol]} · ${num(p.rate)} req/s · ${p.in_flight} in flight · ${p.queued} of ${p.queue} queued · ${p.check === "none" ? "no checks" : p.check}${levelsOf(p)}`);
    for (const r of t.rows) {
      const b = r.b, k = kindOf(b.state), last = b.checks[0], act = b.admin === "ready" ? "Drain…" : "Ready…";
      COLS.forEach(([, , , key, make], i) => { const c = key(b, p); if (c !== r.keys[i]) { r.keys[i] = c; r.cells[i].replaceChildren(...make(b, p).flat(2).filter(Boolean)); } });
      const tint = b.state === "ready" ? "" : "r-" + k;
      if (r.tr.className !== tint && !r.tr.classList.contains("target")) r.tr.className = tint;
      say(r.check.firstChild, last ? `${last.passed ? "✓" : "✗"} ${last.what.slice(0, 40)}` : DASH); say(r.ago, last ? `${last.ms == null ? "" : ms(last.ms) + ", "}${dur(now() - last.at)} ago` : "");
      say(r.act, act);
      const shut = D.wishes.has(b.name) || !still();
      if (r.act.disabled !== shut) r.act.disabled = shut;
      if (r.act.getAttribute("aria-label") !== `${act} ${b.name}`) r.act.setAttribute("aria-label", `${act} ${b.name}`);
      const hide = problems && !bad(b) || !words.every((w) => `${b.name} ${placeOf(b, p)} ${b.state}`.toLowerCase().includes(w));
      if (r.tr.hidden !== hide) r.tr.hidden = hide;
    }
  }
  const waiting = document.querySelectorAll("#dialog .go[data-live], #bulk button, #reload, #reset");
  for (const b of waiting) if (b.dataset.shut === undefined && b.disabled !== !still()) b.disabled = !still();
}

// ---- charts
const SPECS = {
  requests: { stack: true, fmt: num, after: " /s", head: (v) => sum(v, (x) => x), of: () => [["own", "k-us", "own errors"], ["c5", "k-5xx", "5xx"], ["c4", "k-4xx", "4xx"], ...(has("own_ok") && D.history.series.own_ok.some((v) => v) ? [["own_ok", "k-ink2", "own answers"]] : []), ["ok", "k-ok", has("c4") || has("c5") ? "2xx–3xx" : "answered"]] },
  latency: { log: true, worst: true, fmt: ms, after: " p99", none: "not measured", head: (v) => v[v.length - 1], of: () => ["p50", "p90", "p99"].map((q, i) => [`${$("phase").value}.${q}`, ["k-ok", "k-us", "k-ink"][i], q, [[2, 3], [6, 3], null][i]]) },
  flight: { stack: true, fmt: num, head: (v) => v[0], after: (v) => v.in_flight_limit == null ? "" : " of " + num(v.in_flight_limit), of: () => [["in_flight", "k-ok", "in flight"], ["queued", "k-4xx", "queued"]], line: ["in_flight_limit", "k-ink2", "limit", [5, 4]] },
  last: { fmt: num, fill: true, head: (v) => v[0], of: () => has("bytes_out") ? [["bytes_out", "k-ok", "out, to clients"], ["bytes_in", "k-us", "in, from clients", [6, 3]]] : [["connections", "k-ok", "clients"]] },
};
const has = (name) => !!D.history && name in D.history.series;
const probe = h("span", { hidden: true }), tints = {}, pictures = {};
const tint = (cls) => { if (!tints[cls]) { probe.className = cls; tints[cls] = getComputedStyle(probe).color; } return tints[cls]; };
const faint = (cls, alpha) => tint(cls).replace(/^rgb\((.*)\)$/, `rgba($1, ${alpha})`);
function picture(kind, color) {
  const key = kind + color;
  if (!pictures[key]) { const im = new Image(); im.onload = later; im.src = "data:image/svg+xml," + encodeURIComponent(`<svg xmlns="http://www.w3.org/2000/svg" width="26" height="26" viewBox="0 0 16 16" color="${color}">${$("g-" + known(kind)).innerHTML}</svg>`); pictures[key] = im; }
  return pictures[key];
}
const nice = (v) => { const e = 10 ** Math.floor(Math.log10(v)); return [1, 1.5, 2, 3, 4, 5, 8, 10].find((n) => n * e >= v * .9999) * e; };
const charts = Object.entries(SPECS).map(([id, spec]) => { const fig = $("c-" + id); return { id, spec, fig, plot: fig.querySelector(".plot"), out: fig.querySelector("output"), name: fig.querySelector("b"), legend: fig.querySelector(".legend"), top: 0, keys: "" }; });
const source = () => D.long && (view.span > 900 || view.end != null && view.end - view.span < D.history.start) ? D.long : D.history;
const lengthOf = (H) => Math.max(0, ...Object.values(H.series).map((a) => a.length));
const endOf = (H) => H.start + (lengthOf(H) - 1) * H.step_s;
const lastAt = () => endOf(D.history);
function columns(c, H, from, to) { // rates are means, latencies the worst of the seconds behind a pixel
  const { spec } = c, width = Math.max(60, c.plot.clientWidth - 46), points = view.span / H.step_s, per = Math.max(1, Math.ceil(points / width * 1.5));
  const first = Math.max(0, Math.ceil((from - H.start) / H.step_s)), last = Math.min(lengthOf(H) - 1, Math.floor((to - H.start) / H.step_s));
  const ends = []; for (let i = first + (per - 1 - (first + Math.round(H.start / H.step_s)) % per); i <= last; i += per) ends.push(i);
  if (ends[ends.length - 1] !== last && last >= first) ends.push(last);
  const take = (a, i) => { let v = 0, n = 0; for (let k = i; k > i - per && k >= 0; k--) { const x = a && a[k]; if (x == null) continue; v = spec.worst ? Math.max(v, x) : v + x; n++; } return n ? spec.worst ? v : v / n : null; };
  return { xs: ends.map((i) => H.start + i * H.step_s), ys: c.list.map(([name]) => ends.map((i) => take(H.series[name], i))), line: spec.line && has(spec.line[0]) ? ends.map((i) => take(H.series[spec.line[0]], i)) : null };
}
function makeChart(c) {
  const { spec } = c, parts = spec.stack ? [...c.list].reverse() : c.list; // of a stack the whole first, and then each part over it
  const fill = ([, cls, , dash]) => spec.stack || spec.fill && !dash ? () => faint(cls, cls === "k-ok" ? .22 : .85) : undefined;
  // A part of a stack has a line only where there is any of it.
  const gaps = (u, si, a, b, found) => {
    const part = parts[si - 1], ys = c.cols[spec.stack ? parts.length - si : si - 1], xs = u.data[0], left = (i) => u.valToPos(xs[Math.max(0, Math.min(xs.length - 1, i))], "x", true);
    return !spec.stack || part[1] === "k-ok" ? found : [...found, ...ys.flatMap((v, i) => v > 0 ? [] : [[left(i - 1), left(i + 1)]])].sort((x, y) => x[0] - y[0]);
  };
  const axis = { stroke: () => tint("k-ink2"), font: "11px system-ui, sans-serif", ticks: { show: false } };
  const series = [{}, ...parts.map((part) => ({ stroke: () => tint(part[1]), width: part[1] === "k-ink" ? 1.5 : 1.3, dash: part[3] || undefined, points: { show: false }, fill: fill(part), gaps }))];
  if (c.lined) series.push({ stroke: () => tint(spec.line[1]), width: 1.2, dash: spec.line[3], points: { show: false } });
  if (c.u) c.u.destroy();
  c.plot.replaceChildren();
  c.u = new uPlot({
    width: Math.max(80, c.plot.clientWidth), height: c.plot.clientHeight || 150, padding: [15, 2, 0, 0], legend: { show: false }, pxAlign: 1, series,
    cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { show: false }, sync: { key: "x" } },
    scales: { x: { time: false, range: () => [c.from, c.to] }, y: { distr: spec.log ? 3 : 1, log: 10, range: () => [spec.log ? c.low : 0, c.top] } },
    axes: [
      { ...axis, size: 20, gap: 4, grid: { show: false }, splits: () => { const step = { 60: 15, 300: 60, 900: 300, 3600: 1200, 21600: 7200 }[view.span], out = []; for (let t = Math.ceil((c.from + view.span * .05) / step) * step; t <= c.to - view.span * .04; t += step) out.push(t); return out; }, values: (u, vs) => vs.map((t) => view.span > 300 ? clock(t).slice(0, 5) : clock(t).slice(3)) },
      { ...axis, size: 44, gap: 5, grid: { stroke: () => tint("k-line"), width: 1 }, splits: () => spec.log ? [.1, 1, 10, 100, 1000, 10000, 1e5].filter((v) => v >= c.low && v <= c.top) : [0, c.top / 2, c.top], filter: (u, vs) => vs, values: (u, vs) => vs.map((v) => spec.log ? v >= 1000 ? v / 1000 + " s" : v + " ms" : c.fmt(v).replace(".0", "")) },
    ],
    hooks: { draw: [(u) => over(c, u)], setCursor: [(u) => { if (u.cursor.event || u.cursor.left >= 0 || cross != null) pointed(c, u); }] },
  }, [[], ...c.list.map(() => []), ...(c.lined ? [[]] : [])], c.plot);
}
let setting = false;
function pointed(c, u) { // one crosshair for all; where it is stands as a time
  if (setting) return;
  const left = u.cursor.left, t = left == null || left < 0 ? null : Math.round(u.posToVal(left, "x"));
  if (t === cross) return;
  cross = t == null ? null : Math.min(c.to, Math.max(c.from, t));
  charts.forEach(legend); range();
}
function point(t) {
  cross = t;
  setting = true;
  for (const c of charts) if (c.u) c.u.setCursor(t == null ? { left: -10, top: -10 } : { left: c.u.valToPos(t, "x"), top: 10 }, false, false);
  setting = false;
  charts.forEach(legend); range();
}
function over(c, u) { // marks, and what is not known
  const g = u.ctx, R = devicePixelRatio || 1, { left, top, width, height } = u.bbox, x = (t) => u.valToPos(t, "x", true);
  g.save(); g.font = `${11 * R}px system-ui, sans-serif`; g.fillStyle = tint("k-ink2"); g.textBaseline = "alphabetic";
  const begins = source().start + firstKnown(source()) * source().step_s;
  const empty = !c.cols.some((ys) => ys.some((v) => v != null));
  if (empty) { g.textAlign = "center"; g.fillText(c.spec.none || "nothing yet", left + width / 2, top + height * .55); }
  else if (c.from < begins - 1 && x(begins) > left + 90 * R) { g.textAlign = "left"; g.fillText("no history before " + clock(begins).slice(0, 5), left + 6 * R, top + 12 * R); }
  const seen = D.marks.filter((m) => m.at > c.from && m.at <= c.to), size = 13 * R, places = seen.map((m) => x(m.at) - size / 2);
  for (let i = 1; i < places.length; i++) places[i] = Math.max(places[i], places[i - 1] + size); // neighbours stand side by side
  for (let i = places.length - 1, most = left + width - size; i >= 0; i--) { places[i] = Math.min(places[i], most); most = places[i] - size; }
  seen.forEach((m, i) => {
    const color = tint(toneOf(m.glyph) || "k-ink2"), im = picture(m.glyph, color), xx = Math.round(x(m.at)) + .5;
    g.strokeStyle = color; g.globalAlpha = .6; g.setLineDash([2 * R, 2 * R]); g.lineWidth = R; g.beginPath(); g.moveTo(xx, top); g.lineTo(xx, top + height); g.stroke(); g.setLineDash([]); g.globalAlpha = 1;
    if (places[i] >= left - size && im.complete && im.naturalWidth) g.drawImage(im, places[i], top - 15 * R, size, size);
  });
  g.restore();
}
const firstKnown = (H) => { const a = Object.values(H.series); const n = lengthOf(H); for (let i = 0; i < n; i++) if (a.some((s) => s[i] != null)) return i; return n; };
function drawChart(c) {
  const { spec } = c, H = source(), wanted = spec.of(), list = wanted.filter(([name]) => has(name)), keys = JSON.stringify([list, !!(spec.line && has(spec.line[0]))]);
  if (!c.plot.clientWidth) return;
  c.list = list.length ? list : wanted.slice(-1);
  c.lined = !!(spec.line && has(spec.line[0]));
  c.fmt = c.id === "last" && has("bytes_out") ? bytes : spec.fmt;
  if (c.id === "last") say(c.name, has("bytes_out") ? "Bytes" : "Connections");
  c.to = view.end ?? lastAt(); c.from = c.to - view.span;
  const got = columns(c, H, c.from, c.to);
  c.cols = got.ys;
  const floor = got.xs.map(() => 0), stacked = got.ys.map((ys) => spec.stack ? ys.map((v, i) => { if (v != null) floor[i] += v; return got.ys.some((k) => k[i] != null) ? floor[i] : null; }) : ys.slice());
  const most = Math.max(1, ...stacked.flat().filter((v) => v != null), ...(got.line || []).filter((v) => v != null)), wants = most * (spec.log ? 1 : 1.04), need = c.fmt === num && wants <= 10 ? 2 * Math.ceil(wants / 2) : nice(wants);
  if (need > c.top || need < c.top * .45 || c.span !== view.span) { c.top = need; c.span = view.span; } // the scale never jumps for a little
  c.low = spec.log ? c.top > 50 ? 1 : .1 : 0;
  if (spec.log) for (const ys of stacked) ys.forEach((v, i) => { if (v != null && v < c.low) ys[i] = c.low; });
  if (!c.u || keys !== c.keys) { c.keys = keys; makeChart(c); c.legend.replaceChildren(); }
  if (spec.stack) stacked.reverse();
  c.u.setData([got.xs, ...stacked, ...(c.lined ? [got.line] : [])], true);
  legend(c);
}
function legend(c) {
  if (!c.list) return;
  const H = source(), at = cross != null && cross <= c.to ? cross : c.to, i = Math.max(0, Math.round((at - H.start) / H.step_s)), line = c.lined ? c.spec.line : null;
  const value = (name) => { const a = H.series[name]; return a ? a[Math.min(i, a.length - 1)] ?? null : null; };
  const shown = c.spec.stack ? [...c.list].reverse() : c.list, items = [...shown, ...(line ? [line] : [])];
  if (c.legend.childElementCount !== items.length) c.legend.replaceChildren(...items.map(([, cls, word, dash]) => h("li", null, s("svg", { class: cls, viewBox: "0 0 14 10", "aria-hidden": "true" }, sign(c, cls, dash)), word, " ", h("b"))));
  items.forEach(([name], n) => say(c.legend.children[n].querySelector("b"), c.fmt(value(name)) + (c.fmt === bytes && value(name) != null ? "/s" : "")));
  const values = c.list.map(([name]) => value(name)), total = values.every((v) => v == null) ? null : c.spec.head(values);
  const after = total == null ? "" : c.fmt === bytes ? "/s out" : typeof c.spec.after === "function" ? c.spec.after({ in_flight_limit: value("in_flight_limit") }) : c.spec.after || "", text = c.fmt(total) + "|" + after;
  if (c.said !== text) { c.said = text; c.out.replaceChildren(c.fmt(total), h("small", null, after)); }
  if (cross != null) { c.plot.setAttribute("aria-valuetext", `${clock(cross)}: ` + items.map(([name, , word]) => `${word} ${c.fmt(value(name))}`).join(", ")); c.plot.setAttribute("aria-valuenow", Math.round(cross)); }
}
function sign(c, cls, dash) {
  if (!c.spec.stack || dash) return s("path", { d: "M0 5H14", stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": dash ? dash.join(" ") : null });
  if (cls === "k-ok") return s("rect", { x: 1, y: 1, width: 11, height: 8, fill: "currentColor", opacity: .6 });
  if (cls === "k-4xx") return s("path", { d: "M6.5 0 12 9H1Z", fill: "currentColor" });
  if (cls === "k-5xx") return s("path", { d: "m2 1 8 8m0-8-8 8", stroke: "currentColor", "stroke-width": 2.4 });
  if (cls === "k-ink2") return s("path", { d: "M6.5 1 11 5 6.5 9 2 5Z", fill: "none", stroke: "currentColor", "stroke-width": 1.6 });
  return s("path", { d: "M6.5 0 12 5 6.5 10 1 5Z", fill: "currentColor" });
}
function range() {
  if (!D.history) return;
  const to = view.end ?? lastAt();
  say($("range"), cross != null ? "at " + clock(cross) : `${clock(to - view.span).slice(0, 5)}–${clock(to).slice(0, 5)}${view.end == null ? "" : ", not now"}`);
}
function drawAll() { if (D.history) { charts.forEach(drawChart); range(); if ($("asnumbers").open) numbers(); } }
let longAsked = 0;
async function lengthen() { // windows over a quarter of an hour, and steps back, use the history of ten seconds
  const wanted = view.span > 900 || view.end != null;
  if (!wanted || !D.history || link !== "live" || performance.now() - longAsked < 10000) return;
  longAsked = performance.now();
  try { D.long = await ask("v1/history?window=21600"); if (D.marks.length < D.long.marks.length) { D.marks = D.long.marks; marks(); } later(); } catch { /* the stream says what is wrong */ }
}
function step(dir) {
  const last = lastAt(), t = (view.end ?? last) + dir * view.span / 2;
  view.end = dir === 0 || t >= last ? null : Math.max(last - 21600 + view.span, t);
  lengthen(); later();
}
function marks() {
  $("marks").replaceChildren(...D.marks.slice(-5).map((m) => h("li", null, h("button", { type: "button", onfocus: () => point(m.at), onpointerenter: () => point(m.at), onpointerleave: () => point(null), onblur: () => point(null) }, glyph(m.glyph), ` ${clock(m.at).slice(0, 5)} ${m.text}`))));
}
function numbers() {
  const H = source(), every = charts.flatMap((c) => (c.list || []).filter(([name]) => has(name)).map(([name, , word]) => [name, word, c])), per = 60 / H.step_s, rows = [];
  $("numbershead").replaceChildren(h("tr", null, h("th", { scope: "col" }, "Minute"), every.map(([, word, c]) => h("th", { scope: "col" }, c.id === "latency" || c.id === "requests" ? `${word}${c.id === "requests" ? " /s" : ""}` : word))));
  const to = view.end ?? endOf(H);
  for (let t = Math.floor(to / 60) * 60; t > to - view.span && rows.length < 360; t -= 60) {
    const i = Math.round((t - H.start) / H.step_s);
    if (i < 0) break;
    rows.push(h("tr", null, h("th", { scope: "row" }, clock(t).slice(0, 5)), every.map(([name, , c]) => { const a = H.series[name].slice(i, i + per).filter((v) => v != null); return h("td", null, !a.length ? DASH : c.id === "requests" ? num(sum(a, (v) => v) / a.length, 1) : c.fmt(c.spec.worst ? Math.max(...a) : sum(a, (v) => v) / a.length)); })));
  }
  $("numbers").replaceChildren(...rows);
}
for (const c of charts) {
  for (const [k, v] of Object.entries({ tabindex: 0, role: "slider", "aria-label": `${c.id === "last" ? "Bytes or connections" : c.name.textContent}: time under the crosshair`, "aria-valuetext": "now", "aria-valuenow": 0, "aria-valuemin": 0 })) c.plot.setAttribute(k, v);
  c.plot.addEventListener("keydown", (e) => {
    if (!D.history) return;
    const end = view.end ?? lastAt(), d = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[e.key];
    if (d) point(Math.min(end, Math.max(end - view.span, (cross ?? end) + d * source().step_s))); else if (e.key === "Escape") point(null); else return;
    e.preventDefault();
  });
  new ResizeObserver(() => { if (c.u && c.plot.clientWidth) { c.u.setSize({ width: c.plot.clientWidth, height: c.plot.clientHeight }); later(); } }).observe(c.plot);
}

// ---- lists
const body = (id, rows) => $(id).querySelector("tbody").replaceChildren(...rows);
const none = (columns, text) => h("tr", null, h("td", { colspan: columns, class: "none" }, text));
const matches = (r) => [r.method.join(", "), r.host.join(", "), [...r.path, ...r.path_prefix.map((p) => p + "*")].join(", ")].filter(Boolean).join(" ") || "everything";
function slow() {
  const S = D.status;
  body("routes", S.routes.length ? S.routes.map((r) => h("tr", null, h("td", null, String(r.n)), h("th", { scope: "row", class: "mono" }, matches(r)), h("td", null, r.to), h("td", { class: "n" }, num(r.rate, 1)), h("td", { class: "n " + (r.errors_60s > 4 ? "hot" : r.errors_60s ? "" : "zero") }, num(r.errors_60s)), h("td", { class: "nowrap" }, r.place))) : [none(6, "There is no route.")]);
  body("events", D.events.length ? [...D.events].reverse().map((e) => { const said = e.kind + ": ", text = e.text.startsWith(said) ? e.text.slice(said.length) : e.text; return h("tr", null, h("td", null, clock(e.at)), h("td", null, glyph(signOf(e)), eventWord(e).replace("_", " ")), h("td", null, where(e.subject), e.subject && text ? ": " : "", text, e.actor && " · " + e.actor)); }) : [none(3, "Nothing yet.")]);
  configuration();
  body("changes", S.changes.length ? S.changes.map((c) => h("tr", null, h("td", null, c.at == null ? "" : clock(c.at)), h("td", null, where(c.subject), " ", c.change), h("td", null, c.actor, c.reason && h("small", null, `“${c.reason}”`)))) : [none(3, "None.")]);
  $("warnbox").hidden = !S.warnings.length;
  $("warnings").replaceChildren(...S.warnings.map((t) => h("li", null, glyph("warn", "s-slow"), h("span", null, t))));
  $("resetact").hidden = !changing() || !S.changes.length;
  listeners();
}
function configuration() {
  const every = $("defaults").checked, shown = D.config.filter((c) => every || c.source !== "default");
  body("config", shown.length ? shown.map((c) => h("tr", { class: c.source.startsWith("runtime") ? "runtime" : null }, h("th", { scope: "row", class: "mono" }, c.key), h("td", { class: "mono" }, c.value), h("td", null, c.source))) : [none(3, "Everything is by default.")]);
}
const secured = (t) => { // until when its certificates are good, and what is wrong with them
  if (!t) return "no";
  const [worst, ...more] = t.flaws, until = `until ${new Date(t.expires_at * 1000).toISOString().slice(0, 10)}`;
  return worst ? [glyph(worst.grave ? "down" : "warn", worst.grave ? "s-down" : "s-slow"), until, h("small", { title: t.flaws.map((f) => f.text).join("\n") }, worst.kind + (more.length ? ` and ${more.length} more` : ""))] : until;
};
let listened = "";
function listeners() {
  const rows = D.status.listeners, key = JSON.stringify(rows.map((l) => [l.name, l.addresses, l.connections, l.limit, num(l.rate, 1), l.refused_60s, l.tls]));
  if (key === listened) return;
  listened = key;
  body("listeners", rows.map((l) => { const bounded = l.limit < 2 ** 40; return h("tr", null, h("th", { scope: "row" }, l.name), h("td", { class: "mono" }, l.addresses.join(", ")), h("td", { class: "nowrap" }, secured(l.tls)), h("td", null, bounded ? `${num(l.connections)} / ${num(l.limit)}` : num(l.connections), bounded && meter(100 * l.connections / l.limit)), h("td", { class: "n" }, num(l.rate, 1)), h("td", { class: "n" }, h("span", { class: l.refused_60s ? "" : "zero" }, num(l.refused_60s)))); }));
}
// A row for each process, which stays what it is while that lives; they stand below all else, so that nothing moves when one comes or goes.
const WORKER = { serves: "ready", starts: "slow", drains: "drain", hangs: "warn", waits: "down" }, processes = new Map();
function serving() {
  const W = D.status.workers, n = D.status.worker_restarts;
  return `${W.filter((w) => w.state === "serves").length} of ${count(new Set(W.map((w) => w.slot)).size, "worker")} serve${n ? `, ${count(n, "restart")}` : ""}`;
}
function workers() {
  const W = D.status.workers, rows = $("workerrows"), keyOf = (w) => `${w.slot} ${w.pid}`, known = new Set(W.map(keyOf));
  $("workers").hidden = !W.length; say($("serving"), serving());
  for (const key of processes.keys()) if (!known.has(key)) processes.delete(key);
  const wanted = W.map((w) => {
    let r = processes.get(keyOf(w));
    if (!r) processes.set(keyOf(w), r = h("tr", null, h("th", { scope: "row", "data-l": "Worker" }, String(w.slot)), h("td", { class: "n", "data-l": "Process" }, String(w.pid || DASH)), h("td", { class: "state" }, h("span"), h("span")),
      ["For", "Connections", "In flight", "Requests", "Req/s", "Lag p99"].map((l) => h("td", { class: "n", "data-l": l }))));
    const [sign, word] = r.cells[2].children, kind = WORKER[w.state] || "unknown";
    if (r.dataset.state !== w.state) { r.dataset.state = w.state; sign.replaceChildren(glyph(kind, kind === "warn" ? "s-down" : toneOf(kind))); }
    say(word, w.state + (w.covered_by == null ? "" : `, covered by ${w.covered_by}`));
    [dur(w.since == null ? 0 : now() - w.since), num(w.connections), num(w.in_flight), num(w.requests), num(w.rate, 1), ms(w.lag_p99_ms)].forEach((text, i) => say(r.cells[i + 3], text));
    return r;
  });
  const present = new Set(wanted);
  for (const r of [...rows.rows]) if (!present.has(r)) r.remove();
  wanted.forEach((r, i) => { if (rows.rows[i] !== r) rows.insertBefore(r, rows.rows[i] || null); });
}
async function followFile() { // what a reload would do is asked for when there is anything that it would do
  const file = D.status.file, differs = !!file && file.changed_at != null;
  $("diffbox").hidden = !file; $("reloadact").hidden = !changing();
  if (!file) return;
  say($("diff").firstChild, `${file.path} against what runs `);
  if (!differs) { $("difflines").replaceChildren(h("li", { class: "zero" }, "Nothing: what the file says is in force.")); return; }
  try { D.plan = await ask("v1/plan"); $("difflines").replaceChildren(...(D.plan.lines.length ? D.plan.lines : ["nothing that matters here"]).map((l) => h("li", null, l))); }
  catch (e) { D.plan = null; $("difflines").replaceChildren(...[e.message, ...(e.problems || []).slice(1).map((p) => p.text)].map((l) => h("li", { class: "d-del" }, l))); }
}

// ---- actions: they ask first, say what follows by the server's word, and wait for it
const SAY = { drain: ["Drain", "Drain"], maint: ["Take out for maintenance:", "Take out"], ready: ["Make ready:", "Make ready"], weight: ["Weight of", "Set weight"], limit: ["Limit of", "Set limit"] };
const NUMBERS = { weight: ["Weight", 256], limit: ["Requests in flight at most, 0: no bound", 1e6] };
const wanted = (verb, number) => verb in NUMBERS ? { [verb]: number } : { admin: verb };
const quoted = (text) => /^[\w./:@-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
async function consequences(verb, rows, number) { // [text, class] each; whether it leaves a pool without anybody
  const out = [], lasts = new Set();
  for (const { b } of rows) {
    const body = wanted(verb, number);
    let said;
    try { said = await ask(pathOf(b) + "?dry_run=1", "PATCH", body); } catch (e) {
      if (e.code !== "last_usable") throw e;
      lasts.add(b.pool);
      said = await ask(pathOf(b) + "?dry_run=1", "PATCH", { ...body, force: true });
    }
    const name = rows.length > 1 ? b.name + ": " : "";
    if (!said.changes.length) out.push([`${name}nothing changes, it is so already`]);
    for (const text of rows.length > 1 ? said.changes : [...said.changes, ...said.follows]) out.push([name + text, text.includes("would be refused") ? "grave" : null]);
  }
  if (rows.length > 1 && (verb === "drain" || verb === "maint")) for (const p of new Set(rows.map((r) => r.p))) {
    const gone = rows.filter((r) => r.p === p).map((r) => r.b), left = p.backends.filter((b) => b.usable && !gone.includes(b)), load = sum(gone.filter((b) => b.usable), (b) => b.weight_effective), kept = sum(left, (b) => b.weight_effective), go = sum(gone, (b) => b.in_flight);
    if (go) out.push([`${count(go, "request")} of ${p.name} go on until they end; nothing is cut`]);
    if (left.length) out.push([`${p.name} keeps ${left.length} of ${p.backends.length}${kept && load ? `; new load on the others +${Math.round(100 * load / kept)} %` : ""}`]);
    else { lasts.add(p.name); out.push([`${p.name} keeps none of ${p.backends.length}: every request to it gets a 503${p.rate ? ` (${num(p.rate)} a second now)` : ""}`, "grave"]); }
  }
  return { out, lasts: [...lasts] };
}
function dialog(title, ...kids) {
  const dlg = $("dialog");
  dlg.className = "";
  dlg.replaceChildren(h("h2", { id: "dtitle" }, title), ...kids.flat(2).filter(Boolean));
  if (!dlg.open) dlg.showModal();
  return dlg;
}
const stay = () => h("button", { type: "button", onclick: () => $("dialog").close() }, "Leave as it is");
function decide(verb, rows) {
  const one = rows.length === 1, verbs = ["drain", "maint", "ready", ...(one ? Object.keys(NUMBERS) : [])], chosen = { weight: rows[0].b.weight, limit: rows[0].b.limit };
  let lasts = [], turn = 0, ok = false;
  const ul = h("ul", { class: "follows", "aria-live": "polite" }), cmd = h("p", { class: "cmd" }), go = h("button", { class: "go", "data-live": "", "data-shut": "" }), reason = h("input", { name: "reason", autocomplete: "off", maxlength: 200, placeholder: "goes to the audit log, and stands in the row", oninput: () => words() });
  const fields = Object.entries(NUMBERS).map(([v, [label, most]]) => [v, h("label", { class: "line" }, label, h("input", { type: "number", name: v, min: 0, max: most, value: chosen[v], oninput: (e) => { chosen[v] = Math.min(most, Math.max(0, Math.round(+e.target.value) || 0)); show(); } }))]);
  const typed = h("input", { autocomplete: "off", spellcheck: "false", oninput: () => words() }), ask2 = h("span"), tl = h("label", { class: "line" }, ask2, typed);
  const words = () => {
    say($("dtitle"), `${SAY[verb][0]} ${one ? rows[0].b.name : count(rows.length, "backend")}`);
    say(go, SAY[verb][1] + (one ? ` ${rows[0].b.name}` : ` ${count(rows.length, "backend")}`));
    for (const [v, label] of fields) label.hidden = v !== verb;
    tl.hidden = !lasts.length; say(ask2, `This leaves no usable backend. Type ${lasts.join(" ")} to go on`);
    go.disabled = !ok || !still() || lasts.length > 0 && typed.value.trim() !== lasts.join(" ");
    say(cmd, `lbctl ${verb} ${rows.map((r) => quoted(r.b.name)).join(" ")}${verb in NUMBERS ? " " + chosen[verb] : ""}${reason.value ? ` --reason ${quoted(reason.value)}` : ""}${lasts.length ? " --force" : ""}`);
  };
  const show = async () => {
    const mine = ++turn;
    ok = false; lasts = []; words(); ul.replaceChildren(h("li", { class: "zero" }, "asking what follows …"));
    try {
      const f = await consequences(verb, rows, chosen[verb]);
      if (mine !== turn) return;
      lasts = f.lasts; ok = true;
      ul.replaceChildren(...f.out.map(([t, c]) => h("li", { class: c }, t)));
    } catch (e) { if (mine === turn) ul.replaceChildren(h("li", { class: "grave" }, e.message), ...(e.hint ? [h("li", null, e.hint)] : [])); }
    if (mine === turn) words();
  };
  const seg = h("fieldset", { class: "seg" }, h("legend", null, "Action"), verbs.map((v) => h("label", null, h("input", { type: "radio", name: "verb", checked: v === verb, onchange: () => { verb = v; show(); } }), h("span", null, v))));
  dialog("", h("form", { onsubmit: (e) => { e.preventDefault(); if (go.disabled) return; $("dialog").close(); send(verb, rows, reason.value.trim(), chosen[verb], lasts.length > 0); } }, seg, ul, fields.map(([, label]) => label), tl, h("label", { class: "line" }, "Reason", reason), cmd, h("div", { class: "buttons" }, stay(), go)));
  show(); reason.focus();
}
async function send(verb, rows, reason, number, force) {
  const met = (b) => verb in NUMBERS ? b[verb] === number : b.admin === verb, failed = [];
  for (const { b } of rows) if (!met(b)) D.wishes.set(b.name, { text: `${verb} asked, not confirmed yet`, met });
  later();
  for (const { b } of rows) {
    try { await ask(pathOf(b), "PATCH", { ...wanted(verb, number), ...(reason ? { reason } : {}), ...(force ? { force } : {}) }); }
    catch (e) { D.wishes.delete(b.name); failed.push(`${b.name}: ${e.message}`); later(); }
  }
  for (const r of rowsOf()) if (rows.some((x) => x.b.name === r.b.name)) pick(r, false);
  bulk();
  if (failed.length) dialog("Not done", h("ul", { class: "follows" }, failed.map((t) => h("li", { class: "grave" }, t))), h("form", { method: "dialog", class: "buttons" }, h("button", null, "Close")));
}
async function checksOf(b) {
  let full = b;
  try { full = await ask(pathOf(b)); } catch { /* what is here is shown */ }
  const p = pools().find((x) => x.name === b.pool);
  dialog(full.checks.length ? `The last ${count(full.checks.length, "check")} of ${b.name}` : `Nobody has checked ${b.name} yet`, h("div", { class: "scroll" }, h("table", null, h("caption", { class: "sr" }, p ? p.check : ""), h("thead", null, h("tr", null, h("th", { scope: "col" }, "When"), h("th", { scope: "col" }, "Result"), h("th", { scope: "col", class: "n" }, "Took"))), h("tbody", null, full.checks.map((c) => h("tr", null, h("td", null, clock(c.at)), h("td", null, glyph(c.passed ? "ready" : "down"), " " + c.what.slice(0, 120)), h("td", { class: "n nowrap" }, ms(c.ms))))))), h("form", { method: "dialog", class: "buttons" }, h("button", null, "Close"))).className = "broad";
}
function sure(title, lines, command, verb, act) { // ask first, then do it, and say what the server said
  const said = h("p", { class: "said", role: "alert", hidden: true }), go = h("button", { type: "button", class: "go", "data-live": "", onclick: async () => {
    go.disabled = true;
    try { await act(); $("dialog").close(); } catch (e) { said.hidden = false; say(said, e.message); go.disabled = false; }
  } }, verb);
  dialog(title, h("ul", { class: "follows" }, lines.map((l) => h("li", null, l))), h("p", { class: "cmd" }, command), said, h("div", { class: "buttons" }, stay(), go));
}
function reload() {
  const lines = D.plan && D.status.file && D.status.file.changed_at != null ? D.plan.lines : ["the file is read anew; where it says what is in force, nothing changes"];
  sure(`Load ${D.status.file.path}`, lines, "lbctl reload", "Reload", () => ask("v1/reload", "POST", {}));
}
function reset() { sure("Drop all runtime changes", D.status.changes.map((c) => `${c.change} of ${c.subject}`), "lbctl reset", "Reset all", () => ask("v1/changes", "DELETE")); }
function askToken() {
  const said = h("p", { class: "said", role: "alert", hidden: true }), field = h("input", { type: "password", autocomplete: "off", spellcheck: "false" });
  dialog("Token", h("form", { onsubmit: async (e) => {
    e.preventDefault();
    const before = token;
    token = field.value.trim();
    try { await ask("v1/status"); problem = null; $("dialog").close(); setLink("waiting"); listen(); } catch (x) { token = before; said.hidden = false; say(said, x.message); }
  } }, h("p", null, "One of [admin] tokens; without any, the one in the log of this start. It is kept in this page's memory only, and gone with it."), h("label", { class: "line" }, "Token", field), said, h("div", { class: "buttons" }, stay(), h("button", { class: "go" }, "Use it"))));
  field.focus();
}
function bulk() {
  const rows = rowsOf().filter((r) => picked.has(r.b.name)), el = $("bulk");
  el.hidden = !rows.length;
  if (el.hidden) { el.replaceChildren(); return; }
  el.replaceChildren(h("b", null, rows.length + " selected"), ...["Drain", "Maint", "Ready"].map((v) => h("button", { type: "button", onclick: () => decide(v.toLowerCase(), rows) }, v + "…")), h("button", { type: "button", "data-shut": "", onclick: () => { rows.forEach((r) => pick(r, false)); bulk(); } }, "Clear"));
}

// ---- try a request, and failures: where the balancer can tell
async function attempt(e) {
  e.preventDefault();
  const f = $("try"), q = new URLSearchParams({ method: f.method.value, url: f.elements.url.value });
  let lines;
  try { lines = told(await ask("v1/route?" + q)); } catch (x) { lines = [["down", x.message], ...(x.hint ? [["unknown", x.hint]] : [])]; }
  $("tried").replaceChildren(...lines.map(([k, t]) => h("li", null, glyph(k), t)));
}
function told(v) {
  const out = [["ready", `Listener ${v.listener}`], ...v.looked_at.map((r) => [r.matches ? "ready" : "unknown", `Route ${r.n}${r.name ? `, ${r.name}` : ""}: ${r.matches ? "matches" : r.why}${r.place ? ` (${r.place})` : ""}`])];
  if (v.action === "none" || !v.route) out.push(["down", `No route: the client would get a ${v.status || 404}`]);
  else if (v.status) out.push([v.action === "deny" ? "down" : "ready", `${v.action}: the client would get a ${v.status}`]);
  if (v.pool) out.push(["ready", `Pool ${v.pool}`]);
  if (v.decision) out.push(...decision(v.decision));
  return out;
}
// "drained by alice: “deploy”, 5 min ago", "ejected, 17 s left (connection refused)", as lbctl says it.
function outWords(c, ago) {
  const left = c.left_s == null ? "" : `, ${dur(c.left_s)} left`, why = c.reason || "";
  return (c.state || c.skipped) + left + (why.startsWith("by ") ? ` ${why}` + (c.for_s == null ? "" : `, ${dur(c.for_s)} ${ago}`) : why && ` (${why})`);
}
function decision(d, ago = "ago") {
  const out = [[d.picked ? "ready" : "down", d.picked ? `${d.picked}: ${d.rule}` : d.waits ? "It would wait in the queue" : "No backend would be asked"]];
  return [...out, ...d.candidates.filter((c) => c.skipped).map((c) => [kindOf(c.state), `Skipped ${c.backend}: ${outWords(c, ago)}`])];
}
let failed = "";
async function failures() {
  if (!D.api.explain || link !== "live") return;
  try {
    const [bad, long] = await Promise.all([ask("v1/explain?failed=20"), ask("v1/explain?slowest=10")]);
    const slow = new Set(long.requests.map((r) => r.id)), every = new Map([...long.requests, ...bad.requests].map((r) => [r.id, { ...r, slow: slow.has(r.id) }]));
    const all = [...every.values()].sort((a, b) => b.at - a.at), key = JSON.stringify(all.map((r) => r.id));
    if (key === failed) return;
    failed = key;
    const t = $("failures"), before = new Map([...t.tBodies].map((b) => [b.id, b]));
    for (const b of t.tBodies) if (!every.has(b.id.slice(2)) && !b.querySelector("details[open]")) before.delete(b.id);
    // Those that are known stay what they are, with their focus; what somebody reads stays too.
    const bodies = all.map((r) => { const held = before.get("r-" + r.id); before.delete("r-" + r.id); return held && made.has(held) ? held : request(r, !!held && held.querySelector("details").open); });
    const read = [...before.values()].filter((b) => b.id && b.querySelector("details[open]"));
    const wanted = bodies.length + read.length ? [...read, ...bodies] : [h("tbody", null, none(5, "Nothing failed."))], present = new Set(wanted);
    for (const b of [...t.tBodies]) if (!present.has(b)) b.remove();
    wanted.forEach((b, i) => { if (t.tBodies[i] !== b) t.insertBefore(b, t.tBodies[i] || null); });
  } catch { /* the stream says what is wrong */ }
}
const made = new WeakSet(); // rows of this script: what the server has rendered is replaced
const WELL = ["OK", "ANSWER", "REDIRECT"], SHORTEST = 5e-5, MOST_CANDIDATES = 8;
const took = (t) => t == null ? DASH : t < SHORTEST ? "0" : ms(t * 1000);
const wordOf = (r) => r.running ? "running" : !WELL.includes(r.outcome) ? r.local_reply && (r.status || 500) < 500 ? "refused" : "failed" : r.attempts.length > 1 ? "retried, then well" : r.slow ? "slow" : "";
const isSession = (r) => r.method === "TCP"; // a connection that is carried as it is
const statusOf = (r) => isSession(r) && r.attempts.some((a) => a.connect_s != null) ? r.running ? "open" : "closed" : String(r.status || DASH);
function request(r, open) {
  const said = [wordOf(r), WELL.includes(r.outcome) ? "" : r.outcome, r.attempts.map((a) => a.backend).join(" → ")].filter(Boolean).join(" · ");
  const body = h("tbody", { id: "r-" + r.id }, h("tr", { class: "req" }, h("td", null, clock(r.at)), h("th", { scope: "row" }, h("span", { class: "mono" }, `${r.method} ${r.path}${r.query ? "?…" : ""}`)), h("td", null, h("span", { class: "status x" + String(r.status || DASH)[0] }, statusOf(r))), h("td", null, said), h("td", { class: "n" }, took(r.took_s))),
    h("tr", { class: "why" }, h("td", { colspan: 5 }, h("details", { open }, h("summary", null, "Why? ", h("span", { class: "id" }, r.id)), explained(r)))));
  made.add(body);
  return body;
}
function explained(r) {
  const reasons = r.attempts.map((a) => a.reason), texts = [[...["client", "listener", "route", "pool"].filter((k) => r[k]).map((k) => `${k} ${r[k]}`), ...(r.tls ? [`over ${r.tls.text}`] : []), ...(r.proxy ? [`told by its proxy: ${r.proxy.text}`] : [])].join(" · "), ...r.attempts.map(how),
    r.attempts.length || r.running ? "" : "No backend was asked.", ...r.note.filter((t) => t !== "no backend was asked"), reasons.includes(r.detail) ? "" : r.detail].filter(Boolean);
  return h("div", null, texts.map((t) => h("p", null, t)), waterfall(r), candidates(r));
}
const overOf = (a) => a.protocol && a.protocol !== "HTTP/1.1" && `over ${a.protocol}${a.stream ? `, stream ${a.stream}` : ""}`;
const how = (a) => [`${a.number}  ${a.backend}`, overOf(a), a.retried && `${a.retried.startsWith("hedged: ") ? "" : "retried: "}${a.retried}${a.number <= a.most ? `; attempt ${a.number} of ${a.most}` : ""}${a.budget_left == null ? "" : `; ${a.budget_left} more in the budget`}`, a.decision.rule && `chosen: ${a.decision.rule}`].filter(Boolean).join(" · ");
const PHASES = [["queue", "queue"], ["connect", "connect"], ["first", "first byte"], ["rest", "rest"], ["bad", "where it failed"]], PHASES_TCP = PHASES.filter(([kind]) => kind !== "first").map(([kind, name]) => [kind, kind === "rest" ? "open" : name]);
function phases(a) { // behind its wait, in their order; in the last one it failed, if it did
  const known = (a.connect_s == null ? [["connect", a.took_s]] : [["connect", a.connect_s], ["first", a.first_byte_s], ["rest", a.rest_s]]).filter(([, t]) => t != null);
  if (known.length && a.outcome != null && a.outcome !== "OK") known[known.length - 1][0] = "bad";
  return known;
}
function water(begin, parts, whole) { // the bar of one attempt on the time of the whole request, and when it was in words
  const from = Math.max(0, begin), bars = [];
  let at = from;
  for (const [kind, t] of parts) {
    if (t >= SHORTEST) { const width = Math.max(.4, 100 * t / whole); bars.push(s("rect", { class: "f-" + kind, x: Math.min(100 * at / whole, 100 - width).toFixed(2) + "%", width: width.toFixed(2) + "%", height: 9 })); }
    at += t;
  }
  return h("td", { class: "w-water" }, s("svg", { class: "water", "aria-hidden": "true" }, s("rect", { class: "track", width: "100%", height: 9, rx: 2 }), bars), h("small", null, `at ${took(from)}, for ${took(at - from)}`));
}
function waterfall(r) {
  const session = isSession(r), waited = r.queue_s - sum(r.attempts, (a) => a.queue_s), whole = Math.max(r.took_s || 0, r.queue_s, SHORTEST, ...r.attempts.map((a) => a.began_s + sum(phases(a), ([, t]) => t)));
  const line = (name, ended, times, bar) => h("tr", null, h("th", { scope: "row", class: "nowrap" }, name), h("td", null, ended), times.map((t) => h("td", { class: "n nowrap" }, t)), bar);
  const rows = r.attempts.map((a) => {
    const connect = a.connect_s == null ? a.took_s : a.connect_s, sign = !a.outcome ? "…" : a.outcome === "OK" ? "✓" : "✗";
    return line(`${a.number}  ${a.backend}`, [`${sign} ${a.outcome || "running"}`, a.reason && h("small", null, a.reason), a.then && h("small", null, `then it was ${a.then}`)].filter(Boolean), [took(a.queue_s), a.reused && !connect ? "reused" : took(connect), ...(session ? [] : [took(a.first_byte_s)]), took(a.rest_s)], water(a.began_s - a.queue_s, [["queue", a.queue_s], ...phases(a)], whole));
  });
  if (waited > SHORTEST) rows.push(line("in the queue", r.running ? "… waits" : "✗ no attempt", [took(waited), DASH, DASH, ...(session ? [] : [DASH])], water(whole - waited, [["queue", waited]], whole)));
  if (!rows.length) return null;
  const heads = ["Attempt", "Ended", "Queue", "Connect", ...(session ? ["Open"] : ["First byte", "Rest"]), "When"].map((t, i, all) => h("th", { scope: "col", class: i > 1 && i < all.length - 1 ? "n" : null }, t));
  return [h("table", { class: "attempts" }, h("caption", { class: "sr" }, "Attempts"), h("thead", null, h("tr", null, heads)), h("tbody", null, rows)),
    h("p", { class: "key", "aria-hidden": "true" }, (session ? PHASES_TCP : PHASES).map(([kind, name]) => h("span", null, s("svg", { "aria-hidden": "true", viewBox: "0 0 9 9" }, s("rect", { class: "f-" + kind, width: 9, height: 9 })), name)))];
}
function candidates(r) { // those that were asked, those that were out, and then others
  const tried = r.attempts.map((a) => a.backend), found = new Map([...r.skipped, ...r.candidates].map((c) => [c.backend, c])), picked = r.decision && r.decision.picked;
  if (!found.size) return null;
  const others = [...found.values()].filter((c) => !tried.includes(c.backend));
  const all = [...[...new Set(tried)].map((name) => found.get(name)).filter(Boolean), ...others.filter((c) => c.skipped), ...others.filter((c) => !c.skipped)], more = all.length - MOST_CANDIDATES;
  const note = (c) => c.backend === picked ? "taken" : tried.includes(c.backend) ? "tried before" : [c.skipped, c.reason, c.left_s != null && `${Math.round(c.left_s)} s left`].filter(Boolean).join(", ");
  const heads = ["Candidate", "State", "In flight", "Weight", "Value"].map((t, i) => h("th", { scope: "col", class: i > 1 ? "n" : null }, t));
  return h("table", { class: "candidates" }, h("caption", { class: "sr" }, "Candidates"), h("thead", null, h("tr", null, heads, h("th", { scope: "col" }, h("span", { class: "sr" }, "Note")))),
    h("tbody", null, all.slice(0, MOST_CANDIDATES).map((c) => h("tr", null, h("th", { scope: "row" }, c.backend), h("td", null, glyph(kindOf(c.state)), " " + c.state), h("td", { class: "n" }, c.load == null ? DASH : c.limit ? `${c.load} / ${c.limit}` : String(c.load)), h("td", { class: "n" }, String(c.weight)), h("td", { class: "n" }, c.rank == null ? DASH : c.rank.toFixed(2).replace(/\.?0+$/, "")), h("td", null, note(c)))),
      more > 0 && h("tr", null, h("td", { colspan: 6, class: "zero" }, `and ${more} more`))));
}
async function byId() {
  const q = $("rid").value.trim();
  for (const b of $("failures").tBodies) { const is = q.length > 3 && b.id.startsWith("r-" + q); b.classList.toggle("target", is); if (is) b.querySelector("details").open = true; }
  if (document.getElementById("r-" + q) || q.length < 8) return; // what only begins like it is another one
  try { const b = request(await ask("v1/explain/" + encodeURIComponent(q)), true); b.classList.add("target"); $("failures").tHead.after(b); if (location.hash === "#r-" + encodeURI(q)) b.scrollIntoView(); } catch { /* not held, or not all of it typed */ }
}
async function abilities() { // what this balancer can tell is in its own document
  try {
    const paths = (await ask("v1/openapi.json")).paths;
    D.api = { route: "/v1/route" in paths, explain: "/v1/explain" in paths };
  } catch { return; }
  $("tryit").hidden = !D.api.route; $("failing").hidden = !D.api.explain;
  const l = D.status && D.status.listeners[0];
  if (D.api.route && l && !$("try").elements.url.value) $("try").elements.url.value = `http://${(l.addresses[0] || "localhost").replace("0.0.0.0", location.hostname)}/`;
  await failures();
  hash();
}

// ---- begin
function theme(t) {
  if (t === "system") document.documentElement.removeAttribute("data-theme"); else document.documentElement.setAttribute("data-theme", t);
  for (const k in tints) delete tints[k];
  later();
  try { localStorage.setItem("theme", t); } catch { /* a private window */ }
}
function hash() {
  if (!location.hash.startsWith("#r-")) return;
  const name = decodeURIComponent(location.hash.slice(1)), target = document.getElementById(name);
  if (!target) { $("rid").value = name.slice(2); byId(); return; } // neither failed nor slow, or long ago
  target.querySelector("details").open = true; target.classList.add("target"); target.scrollIntoView();
}
function start() {
  document.documentElement.classList.add("on"); document.body.append(probe);
  const own = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })() || "system";
  for (const i of $("themes").querySelectorAll("input")) { i.checked = i.value === own; i.addEventListener("change", () => theme(i.value)); }
  theme(own);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => theme(document.querySelector("[name=t]:checked").value));
  for (const i of $("windows").querySelectorAll("input")) i.addEventListener("change", () => { view = { span: +i.value, end: null }; longAsked = 0; lengthen(); later(); });
  $("back").onclick = () => step(-1); $("fore").onclick = () => step(1); $("now").onclick = () => step(0); $("phase").onchange = later; $("reload").onclick = reload; $("reset").onclick = reset; $("token").onclick = askToken;
  $("asnumbers").addEventListener("toggle", later); $("defaults").addEventListener("change", configuration);
  $("pause").onclick = () => { if (link === "paused") { setLink("waiting"); listen(); } else { leave(); setLink("paused"); } };
  for (const id of ["filter", "problems"]) $(id).addEventListener("input", later);
  $("try").addEventListener("submit", attempt); $("rid").addEventListener("input", byId);
  addEventListener("keydown", (e) => { if (e.key === "/" && !/INPUT|SELECT|TEXTAREA/.test(e.target.tagName) && !$("dialog").open) { e.preventDefault(); $("filter").focus(); } });
  addEventListener("hashchange", hash);
  document.addEventListener("visibilitychange", () => { if (document.hidden) leave(); else if (link !== "paused") listen(); });
  setInterval(() => {
    if (document.hidden || !D.status) return;
    if (link === "live" && performance.now() - news > 3000) setLink("stale");
    if (link !== "paused") later();
    lengthen();
  }, 1000);
  setInterval(failures, 5000);
  setLink("waiting");
  say($("cli"), `lbctl --admin ${location.origin} status`);
  listen().catch(() => setLink("stale"));
  const once = setInterval(() => { if (D.status) { clearInterval(once); abilities(); } }, 100);
}
start();
