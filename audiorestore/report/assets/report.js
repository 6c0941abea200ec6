"use strict";
// Both pages share this file: a table that can be sorted and searched, and a player with spectrograms.
(() => {
const $ = id => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const clock = (seconds, digits = 0) => {
  const unit = 10 ** digits, rounded = Math.round(seconds * unit) / unit;
  const hours = Math.floor(rounded / 3600), minutes = Math.floor(rounded / 60) % 60;
  const rest = (rounded % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
};

// ---- the index -----------------------------------------------------------------------------------------------------

const table = $("files");
if (table) {
  const body = table.tBodies[0], search = $("search"), shown = $("shown");
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
      count += !row.hidden;
    }
    shown.textContent = `${count} of ${body.rows.length} shown`;
  };
  search.addEventListener("input", filter);
  filter();
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const head = button.closest("th"), column = head.cellIndex;
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = row => row.cells[column].dataset.key ?? row.cells[column].textContent;
      const numeric = head.classList.contains("n");
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (!numeric) return x.localeCompare(y);
        return (x === "" ? -Infinity : Number(x)) - (y === "" ? -Infinity : Number(y));
      });
      body.append(...(up ? rows : rows.reverse()));
    });
  }
}

const element = $("data");
if (!element) return;
const data = JSON.parse(element.textContent);
const LANES = data.lanes;
const textOf = number => $(`f${number}`).textContent;

// ---- the player: three lanes on one clock ---------------------------------------------------------------------------

const FADE = 0.01;          // seconds; between lanes and between clips
const AHEAD = 3;            // seconds that are handed to the browser before they are due
const KEPT = 5;             // decoded clips

class Player extends EventTarget {
  constructor() {
    super();
    this.lane = "after";
    this.playing = false;
    this.from = 0;            // place in the recording at which the clock began
    this.began = 0;           // the clock then
    this.turn = 0;            // counts beginnings; what an older one still waits for is dropped
    this.window = null;       // the window that is played, or none
    this.sources = new Set();
    this.decoded = new Map();
  }

  get position() {
    if (!this.playing) return this.from;
    return clamp(this.from + this.context.currentTime - this.began, this.from, this.until);
  }

  // Gains in dB of all lanes, as the switches want them.
  gains() {
    const match = $("match").checked && data.gains, removed = $("lift").checked && data.gains;
    return {
      before: match ? data.gains.before : 0,
      after: match ? data.gains.after : 0,
      removed: removed ? data.gains.lifted : match ? data.gains.removed : 0,
    };
  }

  // The gain of each lane as it is now, 0 to more than 1: what tests look at.
  levels() {
    return Object.fromEntries(LANES.map(lane => [lane, this.nodes ? this.nodes[lane].gain.value : 0]));
  }

  open() {
    if (this.context) return;
    this.context = new AudioContext();
    this.nodes = {};
    for (const lane of LANES) {
      this.nodes[lane] = this.context.createGain();
      this.nodes[lane].gain.value = 0;
      this.nodes[lane].connect(this.context.destination);
    }
  }

  mix() {
    if (!this.context) return;
    const gains = this.gains(), now = this.context.currentTime;
    for (const lane of LANES) {
      const level = this.playing && lane === this.lane ? 10 ** (gains[lane] / 20) : 0;
      this.nodes[lane].gain.cancelScheduledValues(now);
      this.nodes[lane].gain.setTargetAtTime(level, now, FADE / 3);
    }
  }

  choose(lane) {
    this.lane = lane;
    this.mix();
    this.changed();
  }

  piece(place) {
    return data.pieces.find(piece => place >= piece.start - 1e-6 && place < piece.end - 1e-6)
      ?? data.pieces.find(piece => piece.start > place);
  }

  // Decode a clip, and keep the latest few.
  buffers(number) {
    if (!this.decoded.has(number)) {
      const clip = data.clips[number];
      const files = clip.files.map(file => {
        const bytes = Uint8Array.from(atob(textOf(file)), letter => letter.charCodeAt(0));
        return this.context.decodeAudioData(bytes.buffer);
      });
      this.decoded.set(number, Promise.all(files).then(found => {
        if (found.length < 3) found.push(this.difference(found[0], found[1]));
        return found;
      }));
      if (this.decoded.size > KEPT) this.decoded.delete(this.decoded.keys().next().value);
    }
    return this.decoded.get(number);
  }

  difference(before, after) {
    const removed = this.context.createBuffer(before.numberOfChannels, before.length, before.sampleRate);
    for (let channel = 0; channel < before.numberOfChannels; channel++) {
      const old = before.getChannelData(channel), kept = after.getChannelData(channel);
      const rest = removed.getChannelData(channel);
      for (let index = 0; index < rest.length; index++) rest[index] = old[index] - kept[index];
    }
    return removed;
  }

  async play(place = this.position, window = this.window) {
    const turn = ++this.turn;
    this.open();
    this.window = window;
    const end = window === null ? data.seconds : data.windows[window].end;
    if (place >= end - 0.02) place = window === null ? 0 : data.windows[window].start;
    const piece = this.piece(place);
    if (!piece) return this.stop(place);
    place = Math.max(place, piece.start);
    try {
      await Promise.all([this.context.resume(), this.buffers(piece.clip)]);
    } catch (error) {
      say("This browser cannot decode the sound here. The windows are in FLAC, which all current ones can.");
      return;
    }
    if (turn !== this.turn) return;
    this.silence();
    this.from = this.cursor = place;
    this.until = Math.min(end, this.reach(piece));
    this.began = this.context.currentTime + 0.04;
    this.playing = true;
    this.mix();
    await this.schedule(turn);
    clearInterval(this.timer);
    this.timer = setInterval(() => this.schedule(turn), 150);
    this.changed();
  }

  // The end of the pieces that follow this one without a gap.
  reach(piece) {
    let end = piece.end;
    for (const next of data.pieces) if (next.start > piece.start && Math.abs(next.start - end) < 1e-3) end = next.end;
    return end;
  }

  async schedule(turn) {
    if (this.busy === turn) return;
    this.busy = turn;
    while (turn === this.turn && this.cursor < this.until - 1e-6 && this.cursor < this.position + AHEAD) {
      const piece = this.piece(this.cursor), start = this.cursor, end = Math.min(piece.end, this.until);
      const buffers = await this.buffers(piece.clip);
      if (turn !== this.turn) break;
      this.cursor = end;
      this.put(buffers, data.clips[piece.clip], start, end);
    }
    if (this.busy === turn) this.busy = 0;
    if (turn === this.turn && this.playing && this.position >= this.until - 1e-3) this.finished();
  }

  put(buffers, clip, start, end) {
    const { context } = this, due = this.began + start - this.from, late = Math.max(context.currentTime - due, 0);
    const when = due + late, stop = due + end - start;
    if (when >= stop) return;
    buffers.forEach((buffer, index) => {
      const source = context.createBufferSource(), edge = context.createGain();
      source.buffer = buffer;
      edge.gain.setValueAtTime(0, when);
      edge.gain.linearRampToValueAtTime(1, when + FADE);
      edge.gain.setValueAtTime(1, Math.max(stop, when + FADE));
      edge.gain.linearRampToValueAtTime(0, Math.max(stop, when + FADE) + FADE);
      source.connect(edge).connect(this.nodes[LANES[index]]);
      source.start(when, start + late - clip.start, stop - when + 2 * FADE);
      source.onended = () => this.sources.delete(source);
      this.sources.add(source);
    });
  }

  silence() {
    clearInterval(this.timer);
    for (const source of this.sources) source.stop(this.context.currentTime + 2 * FADE);
    this.sources.clear();
  }

  finished() {
    if (this.window !== null && $("repeat").checked) this.play(data.windows[this.window].start);
    else this.stop(this.until >= data.seconds - 0.01 ? 0 : this.until);
  }

  stop(place = this.position) {
    this.turn++;
    if (this.context) this.silence();
    this.from = place;
    this.playing = false;
    this.mix();
    this.changed();
  }

  toggle() { return this.playing ? this.stop() : this.play(); }

  seek(place) {
    place = clamp(place, 0, data.seconds);
    const window = this.window === null ? null : data.windows[this.window];
    const inside = window && place >= window.start && place < window.end;
    if (!inside) this.window = null;
    if (this.playing) return this.play(place);
    this.from = place;
    this.changed();
  }

  changed() { this.dispatchEvent(new Event("change")); }
}

const player = new Player();

// ---- what is seen: one stretch of time in all lanes -----------------------------------------------------------------

const view = { start: 0, end: data.seconds };
const SHORTEST = Math.min(0.25, data.seconds);
const stage = $("stage"), minimap = $("minimap"), axis = $("axis"), damage = $("damage");
const lanes = [...document.querySelectorAll(".spectrogram")].map(box => ({
  box, canvas: box.querySelector("canvas"), index: LANES.indexOf(box.dataset.lane),
}));
const COLOURS = {
  clipping: "#ff8a5c", dropout: "#ffd166", hum: "#5cc8ff", clicks: "#f78fb3", crackle: "#e2a0ff", other: "#9be37f",
};
const kinds = [...new Set(data.damage.map(item => item.kind))];
if (damage) damage.parentElement.style.height = `${10 + 20 * kinds.length}px`;

// Black, violet, orange, pale yellow: the palette "magma" of matplotlib at nine places.
const PALETTE = (() => {
  const places = [[0, 0, 4], [28, 16, 68], [79, 18, 123], [129, 37, 129], [181, 54, 122], [229, 80, 100],
    [251, 135, 97], [254, 194, 135], [252, 253, 191]];
  const colours = new Uint8ClampedArray(256 * 3);
  for (let shade = 0; shade < 256; shade++) {
    const place = shade / 255 * 8, low = Math.min(Math.floor(place), 7), share = place - low;
    for (let part = 0; part < 3; part++) {
      colours[shade * 3 + part] = places[low][part] * (1 - share) + places[low + 1][part] * share;
    }
  }
  return colours;
})();

// Pictures are decoded when they are first seen, and coloured then; the latest are kept.
const pictures = new Map();
function picture(tile, lane) {
  const number = tile.files[lane];
  const known = pictures.get(number);
  if (known) {
    pictures.delete(number);
    pictures.set(number, known);
    return known.canvas;
  }
  const entry = { canvas: null };
  pictures.set(number, entry);
  if (pictures.size > 90) pictures.delete(pictures.keys().next().value);
  const image = new Image();
  image.src = `data:image/webp;base64,${textOf(number)}`;
  image.decode().then(() => {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height), bytes = pixels.data;
    for (let place = 0; place < bytes.length; place += 4) {
      const shade = bytes[place] * 3;
      bytes[place] = PALETTE[shade];
      bytes[place + 1] = PALETTE[shade + 1];
      bytes[place + 2] = PALETTE[shade + 2];
    }
    context.putImageData(pixels, 0, 0);
    entry.canvas = canvas;
    redraw();
  }).catch(() => {});
  return null;
}

function sized(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

function drawSpectrogram(lane) {
  const { context, width, height } = sized(lane.canvas);
  const scale = width / (view.end - view.start);
  const dense = scale / (window.devicePixelRatio || 1);
  for (let level = 0; level < 3; level++) {
    const tiles = data.tiles.filter(tile => tile.level === level);
    // A finer level is worth its while only if the one above has columns wider than a pixel.
    const coarser = data.tiles.find(tile => tile.level < level);
    if (level && coarser && Math.min(...data.tiles.filter(tile => tile.level < level).map(tile => tile.column)) * dense <= 1) break;
    for (const tile of tiles) {
      const end = tile.start + tile.columns * tile.column;
      if (tile.start >= view.end || end <= view.start) continue;
      const drawn = picture(tile, lane.index);
      if (!drawn) continue;
      const first = Math.max(0, (view.start - tile.start) / tile.column - 1);
      const last = Math.min(tile.columns, (view.end - tile.start) / tile.column + 1);
      if (last <= first) continue;
      const left = (tile.start + first * tile.column - view.start) * scale;
      context.drawImage(drawn, first, 0, last - first, drawn.height, left, 0, (last - first) * tile.column * scale, height);
    }
  }
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "right";
  context.textBaseline = "middle";
  let above = lane.index === 0 ? 36 : 0;  // the zoom buttons lie over the first lane
  for (const [share, name] of [...data.ticks].reverse()) {
    const y = height * (1 - share);
    if (y < above + 12 || y > height - 6) continue;
    above = y;
    context.fillStyle = "rgb(255 255 255 / 22%)";
    context.fillRect(width - 6, y, 6, 1);
    context.lineWidth = 3;
    context.strokeStyle = "rgb(12 11 16 / 75%)";
    context.strokeText(name, width - 9, y);
    context.fillStyle = "#e9e6f0";
    context.fillText(name, width - 9, y);
  }
}

function drawMinimap() {
  const { context, width, height } = sized(minimap);
  const x = seconds => seconds / data.seconds * width;
  const top = 18, room = height - top - 4;
  data.windows.forEach((window, index) => {
    const left = x(window.start), size = Math.max(x(window.end) - left, 2);
    context.fillStyle = index === player.window ? "rgb(195 163 251 / 60%)" : "rgb(195 163 251 / 26%)";
    context.fillRect(left, top, size, room + 4);
    context.fillStyle = "#e9e6f0";
    context.font = "600 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(String(index + 1), clamp(left + size / 2, 6, width - 6), 9);
  });
  if (data.curve.length) {
    const high = Math.max(...data.curve), low = high - 50;
    context.beginPath();
    context.moveTo(0, height);
    data.curve.forEach((level, index) => {
      const share = clamp((level - low) / (high - low), 0, 1);
      context.lineTo((index + 0.5) / data.curve.length * width, height - share * room);
    });
    context.lineTo(width, height);
    context.fillStyle = "#a58ae0";
    context.fill();
  }
  if (view.end - view.start < data.seconds * 0.999) {
    const left = x(view.start), right = Math.max(x(view.end), left + 3);
    context.fillStyle = "rgb(12 11 16 / 60%)";
    context.fillRect(0, 0, left, height);
    context.fillRect(right, 0, width - right, height);
    context.strokeStyle = "#fff";
    context.lineWidth = 1.5;
    context.strokeRect(left, 1, right - left, height - 2);
  }
  context.fillStyle = "#fff";
  context.fillRect(x(player.position) - 1, 0, 2, height);
}

function drawDamage() {
  if (!damage) return;
  const { context, width } = sized(damage);
  const scale = width / (view.end - view.start);
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.textAlign = "left";
  kinds.forEach((kind, row) => {
    const y = 5 + 20 * row;
    context.fillStyle = "rgb(255 255 255 / 6%)";
    context.fillRect(0, y + 3, width, 14);
    context.fillStyle = COLOURS[kind] ?? COLOURS.other;
    for (const item of data.damage) {
      if (item.kind !== kind || item.end < view.start || item.start > view.end) continue;
      const left = (item.start - view.start) * scale;
      context.globalAlpha = item.end - item.start > data.seconds * 0.9 ? 0.45 : 0.9;
      context.fillRect(left, y + 3, Math.max((item.end - item.start) * scale, 2), 14);
    }
    context.globalAlpha = 1;
    const size = context.measureText(kind).width;
    context.fillStyle = "rgb(12 11 16 / 82%)";
    context.fillRect(8, y + 2, size + 12, 16);
    context.fillStyle = "#fff";
    context.fillText(kind, 14, y + 10.5);
  });
}

function drawAxis() {
  const { context, width } = sized(axis);
  const span = view.end - view.start, wanted = span / Math.max(width / 90, 2);
  const steps = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
  const step = steps.find(step => step >= wanted) ?? Math.ceil(wanted / 7200) * 7200;
  const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  for (let mark = Math.ceil(view.start / step) * step; mark <= view.end; mark += step) {
    const x = (mark - view.start) / span * width, name = clock(mark, digits), half = context.measureText(name).width / 2;
    context.fillStyle = "#77717f";
    context.fillRect(x, 0, 1, 5);
    context.fillStyle = "#c9c5d2";
    context.textAlign = "left";
    context.fillText(name, clamp(x - half, 3, width - 2 * half - 3), 15);
  }
}

let pending = false;
function redraw() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    lanes.forEach(drawSpectrogram);
    drawDamage();
    drawAxis();
    drawMinimap();
    $("range").textContent = `${clock(view.start, 1)} – ${clock(view.end, 1)}`;
    move();
  });
}

function show(start, end) {
  const span = clamp(end - start, SHORTEST, data.seconds);
  view.start = clamp(start, 0, data.seconds - span);
  view.end = view.start + span;
  redraw();
}

function zoom(factor, about = (view.start + view.end) / 2) {
  show(about - (about - view.start) * factor, about + (view.end - about) * factor);
}

// Around the playhead if it is in view, so that keys zoom where one listens.
function zoomKey(factor) {
  const place = player.position;
  zoom(factor, place >= view.start && place <= view.end ? place : undefined);
}

// ---- from place to screen, while it plays ---------------------------------------------------------------------------

function move() {
  const place = player.position, share = (place - view.start) / (view.end - view.start);
  const head = $("playhead");
  head.hidden = share < 0 || share > 1;
  head.style.transform = `translateX(${share * stage.clientWidth}px)`;
  $("position").value = place;
  $("position").setAttribute("aria-valuetext", clock(place, 1));
  $("time").textContent = `${clock(place, 1)} / ${clock(data.seconds)}`;
  const piece = data.pieces.find(piece => place >= piece.start - 1e-6 && place < piece.end);
  $("quality").textContent = !piece ? "no sound here" : data.clips[piece.clip].full ? "full quality" : "preview quality";
}

function follow() {
  if (!player.playing) return;
  const place = player.position, span = view.end - view.start;
  if (span < data.seconds && (place > view.end || place < view.start)) show(place - span * 0.05, place + span * 0.95);
  else { move(); drawMinimap(); }
  requestAnimationFrame(follow);
}

function say(text) { $("status").textContent = text; }

let wasPlaying = false, heard = "";
player.addEventListener("change", () => {
  $("player").classList.toggle("playing", player.playing);
  $("play").setAttribute("aria-label", player.playing ? "Pause" : "Play");
  for (const button of document.querySelectorAll(".lanes button")) {
    button.setAttribute("aria-pressed", String(button.dataset.lane === player.lane));
  }
  for (const lane of lanes) lane.box.classList.toggle("heard", lane.box.dataset.lane === player.lane);
  document.querySelectorAll(".window").forEach((button, index) => {
    if (index === player.window) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  });
  const now = `${player.playing ? "Playing" : "Paused"}: ${player.lane}`;
  if (now !== heard) say(heard = now);
  if (player.playing && !wasPlaying) requestAnimationFrame(follow);
  wasPlaying = player.playing;
  redraw();
});

// ---- hands ----------------------------------------------------------------------------------------------------------

function listen(index) {
  const window = data.windows[index];
  if (!window) return;
  const margin = Math.min(1, (window.end - window.start) / 4);
  show(window.start - margin, window.end + margin);
  player.play(window.start, index);
}

function step(direction) {
  const order = data.windows.map((window, index) => ({ index, start: window.start })).sort((a, b) => a.start - b.start);
  const place = player.window === null ? player.position : data.windows[player.window].start;
  const next = direction > 0
    ? order.find(item => item.start > place + 0.01) ?? order[0]
    : order.filter(item => item.start < place - 0.01).pop() ?? order[order.length - 1];
  if (next) listen(next.index);
}

$("play").addEventListener("click", () => player.toggle());
for (const button of document.querySelectorAll(".lanes button")) {
  button.addEventListener("click", () => player.choose(button.dataset.lane));
}
for (const name of ["match", "lift"]) $(name).addEventListener("change", () => player.mix());
$("position").addEventListener("input", event => player.seek(Number(event.target.value)));
$("zoom-in").addEventListener("click", () => zoomKey(0.5));
$("zoom-out").addEventListener("click", () => zoomKey(2));
$("zoom-all").addEventListener("click", () => show(0, data.seconds));
document.querySelectorAll(".window").forEach((button, index) => {
  button.addEventListener("click", () => { if (player.playing && player.window === index) player.stop(); else listen(index); });
});

const KEYS = {
  " ": () => player.toggle(),
  a: () => player.choose("before"),
  b: () => player.choose("after"),
  r: () => player.choose("removed"),
  n: () => step(1),
  p: () => step(-1),
  "+": () => zoomKey(0.5),
  "=": () => zoomKey(0.5),
  "-": () => zoomKey(2),
  "0": () => show(0, data.seconds),
  ArrowLeft: event => player.seek(player.position - (event.shiftKey ? 1 : 5)),
  ArrowRight: event => player.seek(player.position + (event.shiftKey ? 1 : 5)),
  Home: () => player.seek(0),
};
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  // Space does what the control in focus does, if it got there by keyboard; a click must not keep the key.
  if (event.key === " " && target.matches("button, input[type=checkbox], summary, a") && target.matches(":focus-visible")) return;
  if (target.matches(".scroll") && event.key.startsWith("Arrow")) return;
  const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act(event);
});

const timeAt = event => {
  const box = stage.getBoundingClientRect();
  return view.start + clamp((event.clientX - box.left) / box.width, 0, 1) * (view.end - view.start);
};
const fingers = new Map();
let drag = null;
stage.addEventListener("pointerdown", event => {
  if (event.button || event.target.closest("button")) return;
  fingers.set(event.pointerId, event.clientX);
  if (event.target === minimap) {
    drag = { minimap: true };
    fly(event);
  } else {
    drag = { x: event.clientX, time: timeAt(event), view: { ...view }, touch: event.pointerType === "touch", moved: false };
  }
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", event => {
  if (!fingers.has(event.pointerId) || !drag) return;
  const before = [...fingers.values()];
  fingers.set(event.pointerId, event.clientX);
  if (fingers.size === 2) {  // two fingers: pinch
    const after = [...fingers.values()];
    const factor = Math.abs(before[0] - before[1]) / Math.max(Math.abs(after[0] - after[1]), 1);
    drag.moved = true;
    zoom(clamp(factor, 0.5, 2), timeAt({ clientX: (after[0] + after[1]) / 2 }));
  } else if (drag.minimap) {
    fly(event);
  } else if (drag.moved || Math.abs(event.clientX - drag.x) > 5) {
    drag.moved = true;
    if (drag.touch) {
      const shift = (drag.x - event.clientX) / stage.clientWidth * (drag.view.end - drag.view.start);
      show(drag.view.start + shift, drag.view.end + shift);
    } else {
      const box = stage.getBoundingClientRect(), mark = $("selection");
      const edges = [drag.x, event.clientX].map(x => clamp(x - box.left, 0, box.width)).sort((a, b) => a - b);
      mark.hidden = false;
      mark.style.left = `${edges[0]}px`;
      mark.style.width = `${edges[1] - edges[0]}px`;
    }
  }
});
function fly(event) {
  const box = minimap.getBoundingClientRect();
  const place = clamp((event.clientX - box.left) / box.width, 0, 1) * data.seconds, span = view.end - view.start;
  if (span < data.seconds) show(place - span / 2, place + span / 2);
  player.seek(place);
}
function letGo(event) {
  if (!fingers.delete(event.pointerId) || !drag || fingers.size) return;
  $("selection").hidden = true;
  if (event.type === "pointerup" && !drag.minimap) {
    if (!drag.moved) player.seek(timeAt(event));
    else if (!drag.touch) show(...[drag.time, timeAt(event)].sort((a, b) => a - b));
  }
  drag = null;
}
stage.addEventListener("pointerup", letGo);
stage.addEventListener("pointercancel", letGo);
stage.addEventListener("wheel", event => {
  const span = view.end - view.start;
  if (event.ctrlKey || event.metaKey) zoom(2 ** (clamp(event.deltaY, -100, 100) / 100), timeAt(event));
  else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    const shift = (event.deltaX || event.deltaY) / stage.clientWidth * span;
    show(view.start + shift, view.end + shift);
  } else return;
  event.preventDefault();
}, { passive: false });
new ResizeObserver(redraw).observe(stage);
player.changed();
window.audiorestore = { player, view };
})();
