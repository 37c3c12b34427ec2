// A convolution to play with: one channel, small whole numbers, so that every
// sum can be followed and is exact.

import { Explorer, code, make, math, minus, words } from "./explorer.js";

// What is drawn fits a phone; beyond it, sizes are still worked out.
const MOST_CELLS = 14;
const MOST_KERNEL = 7;
const MOST_ABREAST = 19; // cells in a row of all three grids
const MOST = 1024;
const PACE = 700; // milliseconds between the steps of a window that plays

const WORDS = {
  zh: {
    title: "动手试试",
    hint: "改一改设置；点输出的格子，或用方向键移动窗口。",
    name: "卷积的交互演示",
    labels: { height: "高", width: "宽", kernel: "卷积核", padding: "填充", stride: "步幅", dilation: "膨胀率" },
    square: "宽等于高",
    numbers: "卷积核的数值",
    kinds: { edges: "竖边", rows: "横边", ones: "全为 1", mixed: "混合" },
    input: (h, w) => `输入 ${h}×${w}`,
    padded: (h, w) => `填充后 ${h}×${w}`,
    times: (h, w) => `${h}×${w} 个像素各被看几次`,
    kernel: (k) => `卷积核 ${k}×${k}`,
    covers: (r) => `占 ${r}×${r} 格`,
    output: (h, w) => `输出 ${h}×${w}`,
    back: "上一步",
    step: "下一步",
    play: "播放",
    pause: "暂停",
    seen: "每个像素被看几次？",
    corner: (row, column) => `窗口左上角：第 ${row} 行，第 ${column} 列`,
    origin: "行列从 0 数起；小于 0 的落在填充里。",
    size: "输出的大小",
    call: "在 PyTorch 里",
    all: (least, most) => (least === most ? `每个像素都被看了 ${most} 次。` : `每个像素都被看到，次数从 ${least} 到 ${most}。`),
    unseen: (none, all) => `${all} 个像素里，有 ${none} 个没有任何窗口看到`,
    hatched: "（画着斜线）。",
    stop: "。",
    between: "",
    large: (h, w, k) => `尺寸太大，不逐格画出：最多画到填充后 ${h}×${w}、卷积核 ${k}×${k}。下面的大小、次数和代码仍然成立。`,
    wrong: "这组设置无法计算",
    unfit: (k, d, reach, h, w) => [code(`kernel_size=${k}`), ` 在 `, code(`dilation=${d}`), ` 时要占 ${reach}×${reach} 格，而填充后的输入只有 ${h}×${w}。`],
    mend: (k, p) => [code("kernel_size"), ` 最多 ${k}，或者 `, code("padding"), ` 至少 ${p}。`],
    sized: (h, w) => `输出 ${h}×${w}。`,
  },
  en: {
    title: "Try it",
    hint: "Change a setting; point at an output, or use the arrow keys.",
    name: "A convolution to play with",
    labels: { height: "Height", width: "Width", kernel: "Kernel", padding: "Padding", stride: "Stride", dilation: "Dilation" },
    square: "width = height",
    numbers: "Kernel values",
    kinds: { edges: "vertical edges", rows: "horizontal edges", ones: "all ones", mixed: "mixed" },
    input: (h, w) => `input ${h}×${w}`,
    padded: (h, w) => `padded ${h}×${w}`,
    times: (h, w) => `how often each of ${h}×${w} pixels is seen`,
    kernel: (k) => `kernel ${k}×${k}`,
    covers: (r) => `covers ${r}×${r}`,
    output: (h, w) => `output ${h}×${w}`,
    back: "Step back",
    step: "Step",
    play: "Play",
    pause: "Pause",
    seen: "How often is each pixel seen?",
    corner: (row, column) => `Top left of the window: row ${row}, column ${column}`,
    origin: "Rows and columns count from 0; below 0 lies padding.",
    size: "Size of the output",
    call: "In PyTorch",
    all: (least, most) => (least === most ? `Each pixel is seen ${most === 1 ? "once" : `${most} times`}.` : `Each pixel is seen, from ${least} to ${most} times.`),
    unseen: (none, all) => `${none} of ${all} pixels are seen by no window`,
    hatched: " (hatched).",
    stop: ".",
    between: " ",
    large: (h, w, k) => `Too large to draw: drawings go up to ${h}×${w} with padding, and to a kernel of ${k}×${k}. Size, counts and code below still hold.`,
    wrong: "These settings do not work",
    unfit: (k, d, reach, h, w) => [code(`kernel_size=${k}`), " with ", code(`dilation=${d}`), ` covers ${reach}×${reach} cells; the padded input has only ${h}×${w}.`],
    mend: (k, p) => ["At most ", code(`kernel_size=${k}`), ", or at least ", code(`padding=${p}`), "."],
    sized: (h, w) => `Output ${h}×${w}.`,
  },
};

class ConvExplorer extends Explorer {
  static key = "conv";

  static settings = {
    height: { initial: 7, least: 1, most: MOST, argument: "height", symbol: "H" },
    width: { initial: 7, least: 1, most: MOST, argument: "width", symbol: "W" },
    kernel: { initial: 3, least: 1, most: MOST, argument: "kernel_size", symbol: "k" },
    padding: { initial: 0, least: 0, most: MOST, argument: "padding", symbol: "p" },
    stride: { initial: 1, least: 1, most: MOST, argument: "stride", symbol: "s" },
    dilation: { initial: 1, least: 1, most: MOST, argument: "dilation", symbol: "d" },
  };

  labels() {
    return words(WORDS).labels;
  }

  build() {
    this.words = words(WORDS);
    this.kind = "edges";
    this.counting = false;
    this.at = [0, 0]; // the output that was chosen
    this.over = null; // the one that the pointer is over
    const say = this.words;
    this.panel.setAttribute("role", "group");
    this.panel.setAttribute("aria-label", say.name);

    this.square = make("input", { type: "checkbox", onchange: () => this.change("height", this.raw.height) });
    this.select = make(
      "select",
      { onchange: () => this.choose(this.select.value) },
      ...Object.entries(say.kinds).map(([value, text]) => make("option", { value }, text)),
    );
    this.problem = make("div", { class: "explorer-problem" });
    this.stage = make("div", { class: "conv-stage" });
    this.player = this.button("play", say.play, () => (this.timer ? this.pause() : this.play()));
    this.toggle = this.button(null, say.seen, () => this.count(!this.counting), { "aria-pressed": "false" });
    this.moves = make(
      "div",
      { class: "explorer-row explorer-controls" },
      this.button("back", say.back, () => this.step(-1)),
      this.player,
      this.button("step", say.step, () => this.step(1)),
      this.toggle,
    );
    this.sum = make("div", { class: "conv-sum" });
    this.corner = make("p", { class: "conv-start" });
    this.size = make("div", { class: "conv-size" });
    this.seen = make("p", { class: "conv-seen" });
    this.call = make("code", { class: "explorer-call" });
    this.facts = make(
      "div",
      { class: "conv-facts" },
      make("p", { class: "explorer-heading" }, say.size),
      this.size,
      this.seen,
      make(
        "div",
        { class: "explorer-row" },
        make("p", { class: "explorer-heading" }, say.call),
        this.copier("copy", this.common.copy, () => this.call.textContent),
        this.copier("link", this.common.link, () => this.address()),
      ),
      this.call,
    );
    this.panel.append(
      make("p", { class: "explorer-title" }, make("strong", {}, say.title), " ", make("span", { class: "explorer-controls" }, say.hint)),
      make(
        "div",
        { class: "explorer-settings explorer-controls" },
        ...Object.keys(ConvExplorer.settings).map((name) => this.stepper(name)),
        make("label", { class: "conv-square" }, this.square, " ", say.square),
        make("label", { class: "conv-kind" }, make("span", {}, say.numbers), " ", this.select),
      ),
      this.problem,
      this.stage,
      this.moves,
      this.sum,
      this.corner,
      this.facts,
    );
  }

  // State

  extras() {
    const state = {};
    if (this.kind !== "edges") state.kind = this.kind;
    if (this.counting) state.seen = "1";
    if (this.at[0] || this.at[1]) state.at = this.at.join("-");
    return state;
  }

  restore({ kind, seen, at }) {
    if (kind in this.words.kinds) this.kind = kind;
    this.counting = seen === "1";
    const place = /^(\d+)-(\d+)$/.exec(at ?? "");
    if (place) this.at = [Number(place[1]), Number(place[2])];
    this.square.checked = this.raw.height === this.raw.width;
  }

  change(name, raw) {
    this.pause();
    if (this.square.checked && (name === "height" || name === "width")) {
      this.raw.height = this.raw.width = raw;
    }
    super.change(name, raw);
    this.tell();
  }

  /** Choose the numbers of the kernel. */
  choose(kind) {
    this.kind = kind;
    this.update();
    this.tell();
  }

  /** Show the input, or how often each of its pixels is seen. */
  count(counting) {
    this.counting = counting;
    this.update();
    this.tell();
  }

  tell() {
    this.say(this.problem.hidden ? `${this.sized} ${this.seen.textContent}` : this.problem.lastChild.textContent);
  }

  // Numbers

  /** Work out sizes; return what is wrong with the settings, or null. */
  work() {
    for (const name of Object.keys(ConvExplorer.settings)) {
      const wrong = this.wrong(name);
      if (wrong) return wrong;
    }
    const { height, width, kernel, padding, stride, dilation } = this.settings;
    const reach = dilation * (kernel - 1) + 1;
    const along = (length) => {
      const padded = length + 2 * padding;
      const output = Math.floor((padded - reach) / stride) + 1;
      return { length, padded, output };
    };
    this.rows = along(height);
    this.columns = along(width);
    this.reach = reach;
    const room = Math.min(this.rows.padded, this.columns.padded);
    if (reach > room) {
      const largest = Math.floor((room - 1) / dilation) + 1;
      const ring = Math.ceil((reach - Math.min(height, width)) / 2);
      return [
        ...this.words.unfit(kernel, dilation, reach, this.rows.padded, this.columns.padded),
        this.words.between,
        ...this.words.mend(largest, ring),
      ];
    }
    return null;
  }

  /** Count for each cell along one axis the windows that see it. */
  seenAlong({ length, output }) {
    const { kernel, padding, stride, dilation } = this.settings;
    const times = new Array(length).fill(0);
    for (let i = 0; i < output; i++) {
      for (let u = 0; u < kernel; u++) {
        const place = stride * i + dilation * u - padding;
        if (place >= 0 && place < length) times[place] += 1;
      }
    }
    return times;
  }

  /** A pixel of the input: a bright spot, a little above the middle. */
  pixel(row, column) {
    const { height, width } = this.settings;
    if (row < 0 || column < 0 || row >= height || column >= width) return 0;
    const down = 2 * row - height + 3;
    const right = 2 * column - width + 1;
    const side = Math.min(height, width) + 1;
    return Math.max(0, 4 - Math.floor((4 * Math.hypot(down, right)) / side));
  }

  /** A number of the kernel. */
  weight(u, v) {
    const { kernel } = this.settings;
    const slope = (i) => (kernel === 1 ? 1 : Math.sign(2 * i - kernel + 1));
    if (this.kind === "ones") return 1;
    if (this.kind === "mixed") return ((u * kernel + v) % 9) - 4;
    return slope(this.kind === "rows" ? u : v);
  }

  /** List what the window of an output sees: place, pixel, weight. */
  window(i, j) {
    const { kernel, padding, stride, dilation } = this.settings;
    const taps = [];
    for (let u = 0; u < kernel; u++) {
      for (let v = 0; v < kernel; v++) {
        const row = stride * i + dilation * u - padding;
        const column = stride * j + dilation * v - padding;
        taps.push({ u, v, row, column, x: this.pixel(row, column), w: this.weight(u, v) });
      }
    }
    return taps;
  }

  // Drawing

  draw() {
    const wrong = this.work();
    this.problem.hidden = wrong === null;
    for (const part of [this.facts, this.stage, this.moves, this.sum, this.corner]) part.hidden = wrong !== null;
    if (wrong) {
      this.pause();
      this.problem.replaceChildren(make("strong", {}, this.words.wrong), make("p", {}, ...wrong));
      return;
    }
    this.select.value = this.kind;
    this.toggle.setAttribute("aria-pressed", String(this.counting));
    this.square.checked &&= this.raw.height === this.raw.width;
    this.at = [Math.min(this.at[0], this.rows.output - 1), Math.min(this.at[1], this.columns.output - 1)];
    this.over = null;
    const { kernel } = this.settings;
    const drawn = Math.max(this.rows.padded, this.columns.padded) <= MOST_CELLS && kernel <= MOST_KERNEL;
    for (const part of [this.moves, this.sum, this.corner]) part.hidden = !drawn;
    this.drawFacts(drawn);
    if (drawn) {
      this.drawStage();
      this.show();
    } else {
      this.pause();
      this.stage.replaceChildren(make("p", { class: "conv-large" }, this.words.large(MOST_CELLS, MOST_CELLS, MOST_KERNEL)));
    }
  }

  drawStage() {
    const say = this.words;
    const { height, width, kernel, padding } = this.settings;
    const [down, across] = [this.seenAlong(this.rows), this.seenAlong(this.columns)];
    const most = Math.max(1, ...down) * Math.max(1, ...across);
    this.pixels = new Map();
    const input = grid(this.rows.padded, this.columns.padded, (r, c) => {
      const [row, column] = [r - padding, c - padding];
      const inside = row >= 0 && column >= 0 && row < height && column < width;
      const times = inside ? down[row] * across[column] : null;
      const value = this.pixel(row, column);
      const text = this.counting ? (inside ? times : "") : value;
      const cell = make("td", { class: inside ? "conv-pixel" : "conv-padding" }, String(text));
      if (inside && times === 0) cell.classList.add("conv-unseen");
      if (inside) shade(cell, this.counting ? times / most : value / 4);
      this.pixels.set(`${row},${column}`, cell);
      return cell;
    });
    const weights = grid(kernel, kernel, (u, v) => make("td", { class: "conv-weight" }, minus(this.weight(u, v))));
    const values = grid(this.rows.output, this.columns.output, (i, j) => {
      const value = this.window(i, j).reduce((sum, { x, w }) => sum + x * w, 0);
      return make("td", { class: "conv-value", "aria-label": `y[${i}, ${j}] = ${value}`, "aria-selected": "false", role: "gridcell", tabindex: "-1", "data-at": `${i},${j}` }, minus(value));
    });
    const largest = Math.max(1, ...[...values.querySelectorAll("td")].map((cell) => Math.abs(number(cell.textContent))));
    for (const cell of values.querySelectorAll("td")) shade(cell, Math.abs(number(cell.textContent)) / largest);
    values.setAttribute("role", "grid");
    for (const row of values.rows) row.setAttribute("role", "row");
    this.values = values;
    this.frame = make("div", { class: "conv-frame", "aria-hidden": "true" });
    this.frame.style.setProperty("--reach", this.reach);
    const panel = (kind, title, more, table) => {
      table.setAttribute("aria-label", title);
      table.classList.add("conv-grid");
      const held = make("div", { class: "conv-held" }, table);
      if (kind === "input") held.append(this.frame);
      return make("div", { class: `conv-panel conv-panel-${kind}` }, make("p", {}, make("strong", {}, title), ...(more ? [make("small", {}, more)] : [])), held);
    };
    const sign = (text) => make("span", { class: "conv-sign", "aria-hidden": "true" }, text);
    const shown = this.counting ? say.times(height, width) : say.input(height, width);
    this.stage.replaceChildren(
      panel("input", shown, padding ? say.padded(this.rows.padded, this.columns.padded) : "", input),
      sign("∗"),
      panel("kernel", say.kernel(kernel), this.reach > kernel ? say.covers(this.reach) : "", weights),
      sign("="),
      panel("output", say.output(this.rows.output, this.columns.output), "", values),
    );
    const output = this.columns.output;
    this.stage.style.setProperty("--first", this.columns.padded);
    this.stage.style.setProperty("--rest", kernel + output);
    this.stage.style.setProperty("--wider", Math.max(kernel, output));
    this.stage.classList.toggle("conv-corner-stage", this.columns.padded + kernel + output > MOST_ABREAST);
    this.listen(values);
  }

  drawFacts(drawn) {
    const { kernel, padding, stride, dilation } = this.settings;
    const say = this.words;
    const same = this.rows.length === this.columns.length;
    this.size.replaceChildren(
      size("H", "H", "p", "d", "k", "s"),
      ...[["H", this.rows], ["W", this.columns]]
        .slice(0, same ? 1 : 2)
        .map(([name, { length, output }]) => size(name, length, padding, dilation, kernel, stride, output)),
    );
    this.sized = say.sized(this.rows.output, this.columns.output);
    const [down, across] = [this.seenAlong(this.rows), this.seenAlong(this.columns)];
    const all = down.length * across.length;
    const none = all - down.filter(Boolean).length * across.filter(Boolean).length;
    const least = Math.min(...down) * Math.min(...across);
    const most = Math.max(...down) * Math.max(...across);
    this.seen.replaceChildren(none ? say.unseen(none, all) + (drawn ? say.hatched : say.stop) : say.all(least, most));
    this.seen.classList.toggle("conv-some-unseen", none > 0);
    this.call.textContent = `torch.nn.Conv2d(1, 1, kernel_size=${kernel}, stride=${stride}, padding=${padding}, dilation=${dilation}, bias=False)`;
  }

  /** Show the window of an output: on the input, and its sum written out. */
  show() {
    const [i, j] = this.over ?? this.at;
    const { kernel, padding, stride } = this.settings;
    for (const cell of this.stage.querySelectorAll(".conv-tap, .conv-now")) cell.classList.remove("conv-tap", "conv-now");
    const taps = this.window(i, j);
    for (const { row, column } of taps) this.pixels.get(`${row},${column}`).classList.add("conv-tap");
    for (const cell of this.values.querySelectorAll("td")) {
      const chosen = cell.dataset.at === `${this.at[0]},${this.at[1]}`;
      cell.setAttribute("aria-selected", String(chosen));
      cell.tabIndex = chosen ? 0 : -1;
    }
    const now = this.values.rows[i].cells[j];
    now.classList.add("conv-now");
    this.frame.style.setProperty("--row", stride * i);
    this.frame.style.setProperty("--column", stride * j);

    const term = ({ u, v, x, w, row, column }) => {
      const inside = this.pixels.get(`${row},${column}`).classList.contains("conv-pixel");
      const last = u === kernel - 1 && v === kernel - 1;
      return make(
        "span",
        { class: "conv-term" },
        make("span", { class: inside ? "conv-x" : "conv-zero" }, String(x)),
        "·",
        make("span", { class: "conv-w" }, w < 0 ? `(${minus(w)})` : String(w)),
        ...(last ? [" = ", make("strong", { class: "conv-y" }, now.textContent)] : [" + "]),
      );
    };
    this.sum.style.setProperty("--kernel", kernel);
    this.sum.classList.toggle("conv-small", kernel <= 4);
    this.sum.replaceChildren(
      make("span", { class: "conv-name" }, `y[${i}, ${j}] = `),
      make("span", { class: "conv-terms" }, ...taps.map(term)),
    );
    const start = (at) => `${stride}·${at}${padding ? ` − ${padding}` : ""} = ${minus(stride * at - padding)}`;
    this.corner.replaceChildren(`${this.words.corner(start(i), start(j))}${this.words.stop} `, make("small", {}, this.words.origin));
  }

  // Moving

  /** Have pointer and keys choose an output. */
  listen(values) {
    const place = (event) => event.target.closest("td")?.dataset.at.split(",").map(Number);
    values.addEventListener("click", (event) => {
      const at = place(event);
      if (at) this.move(at);
    });
    values.addEventListener("pointerover", (event) => {
      if (event.pointerType !== "mouse" || this.timer) return;
      this.over = place(event) ?? null;
      this.show();
    });
    values.addEventListener("pointerleave", () => {
      if (!this.over) return;
      this.over = null;
      this.show();
    });
    values.addEventListener("keydown", (event) => {
      const [i, j] = this.at;
      const [bottom, right] = [this.rows.output - 1, this.columns.output - 1];
      const to = {
        ArrowUp: [i - 1, j],
        ArrowDown: [i + 1, j],
        ArrowLeft: [i, j - 1],
        ArrowRight: [i, j + 1],
        Home: event.ctrlKey ? [0, 0] : [i, 0],
        End: event.ctrlKey ? [bottom, right] : [i, right],
      }[event.key];
      if (!to || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.move([clamp(to[0], bottom), clamp(to[1], right)], true);
    });
  }

  /** Choose an output. */
  move(at, focus = false) {
    this.pause();
    this.go(at);
    if (focus) this.values.rows[at[0]].cells[at[1]].focus();
    this.say(this.sum.textContent);
  }

  go(at) {
    this.at = at;
    this.over = null;
    this.show();
    this.write();
  }

  /** Move the window by one output, as one reads. */
  step(by) {
    const [i, j] = this.at;
    const count = this.rows.output * this.columns.output;
    const next = i * this.columns.output + j + by;
    this.move(this.place(clamp(next, count - 1)));
  }

  place(index) {
    return [Math.floor(index / this.columns.output), index % this.columns.output];
  }

  play() {
    const last = this.rows.output * this.columns.output - 1;
    const index = () => this.at[0] * this.columns.output + this.at[1];
    if (index() === last) this.go([0, 0]);
    this.relabel(this.player, "pause", this.words.pause);
    this.timer = setInterval(() => {
      this.go(this.place(Math.min(index() + 1, last)));
      if (index() === last) this.pause();
    }, PACE);
  }

  pause() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = null;
    this.relabel(this.player, "play", this.words.play);
    this.say(this.sum.textContent);
  }
}

function clamp(value, most) {
  return Math.max(0, Math.min(value, most));
}

function number(text) {
  return Number(text.replace("−", "-"));
}

function shade(cell, share) {
  cell.style.setProperty("--share", share.toFixed(3));
}

function grid(rows, columns, cell) {
  const body = make("tbody");
  for (let r = 0; r < rows; r++) {
    body.append(make("tr", {}, ...Array.from({ length: columns }, (_, c) => cell(r, c))));
  }
  return make("table", {}, body);
}

/** Set ⌊(H + 2p − d(k − 1) − 1) / s⌋ + 1 with what stands for each letter. */
function size(name, H, p, d, k, s, result) {
  const put = (value, role) => math(typeof value === "number" ? "mn" : "mi", { class: `conv-${role}` }, String(value));
  const op = (text) => math("mo", {}, text);
  const one = () => math("mn", {}, "1");
  const times = () => (typeof p === "number" ? [op("·")] : []);
  const above = math(
    "mrow",
    {},
    put(H, "x"),
    op("+"),
    math("mn", {}, "2"),
    ...times(),
    put(p, "p"),
    op("−"),
    put(d, "d"),
    ...times(),
    op("("),
    put(k, "w"),
    op("−"),
    one(),
    op(")"),
    op("−"),
    one(),
  );
  const floor = math("mrow", {}, op("⌊"), math("mfrac", {}, above, put(s, "s")), op("⌋"));
  return math(
    "math",
    { displaystyle: "true" },
    math("msup", {}, math("mi", { class: "conv-y" }, name), op("′")),
    op("="),
    floor,
    op("+"),
    one(),
    ...(result === undefined ? [] : [op("="), put(result, "y")]),
  );
}

customElements.define("conv-explorer", ConvExplorer);
