// What all explorers share: settings with steppers, the state in the address,
// a region that is read out, buttons that copy. An explorer extends `Explorer`
// in a file of its own, `<name>-explorer.js`, and draws.
//
// Everything is made with DOM calls: no HTML in strings, no inline style
// attributes, no handlers in attributes, so that the strictest content
// security policy lets it run.

const LANGUAGE = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
const SVG = "http://www.w3.org/2000/svg";
const MATHML = "http://www.w3.org/1998/Math/MathML";

// What steps, plays and copies, drawn in a box of 16 by 16.
const ICONS = {
  back: "M11 3 5 8l6 5zM3 3h2v10H3z",
  play: "M4 2.5 13 8l-9 5.5z",
  pause: "M4 3h3v10H4zM9 3h3v10H9z",
  step: "m5 3 6 5-6 5zM11 3h2v10h-2z",
  copy: "M5 1h9v10h-3v4H2V5h3zm1.5 1.5V5H11v4.5h1.500v-7z",
  link: "M7 4H4.500a4 4 0 0 0 0 8H7v-1.600H4.500a2.400 2.400 0 0 1 0-4.800H7zm2 0v1.600h2.500a2.400 2.400 0 0 1 0 4.800H9V12h2.500a4 4 0 0 0 0-8zM5 7.200v1.600h6V7.200z",
};

const COMMON = {
  zh: {
    less: (name) => `减小${name}`,
    more: (name) => `增大${name}`,
    copy: "复制",
    copied: "已复制",
    link: "复制此设置的链接",
    empty: (name, least) => [code(name), ` 没有填数：应为不小于 ${least} 的整数。`],
    whole: (name, given) => [code(`${name}=${given}`), " 不是整数。"],
    least: (name, given, least) => [code(`${name}=${given}`), ` 太小：至少为 ${least}。`],
    most: (name, given, most) => [code(`${name}=${given}`), ` 太大：这里最多算到 ${most}。`],
  },
  en: {
    less: (name) => `Decrease ${name}`,
    more: (name) => `Increase ${name}`,
    copy: "Copy",
    copied: "Copied",
    link: "Copy link to this setting",
    empty: (name, least) => [code(name), ` has no number; it must be an integer of at least ${least}.`],
    whole: (name, given) => [code(`${name}=${given}`), " must be an integer."],
    least: (name, given, least) => [code(`${name}=${given}`), ` must be at least ${least}.`],
    most: (name, given, most) => [code(`${name}=${given}`), ` is more than this page works out: at most ${most}.`],
  },
};

/** Make an element: attributes (`on…` are listeners), then its children. */
export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an element of MathML. */
export function math(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(MATHML, tag), attributes, children);
}

/** Make a piece of code for a sentence. */
export function code(text) {
  return make("code", {}, text);
}

/** Write a number as it is set in print. */
export function minus(number) {
  return String(number).replace("-", "−");
}

/** Choose the words of the page's language. */
export function words(all) {
  return all[LANGUAGE];
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  picture.setAttribute("viewBox", "0 0 16 16");
  picture.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  picture.append(path);
  return picture;
}

let made = 0;

/**
 * An element that a reader turns knobs of.
 *
 * A class that extends it has `static key`, the prefix of its settings in the
 * address, and `static settings`: for each name `{initial, least, most,
 * argument, symbol}`, `argument` being what code calls it. It has methods
 * `labels()`: what each setting is called, `build()`: make what it shows, once,
 * and `draw()`: show the settings. `extras()` may give more state, that is no
 * number, as `{name: text}`, and `restore(extras)` takes it back.
 */
export class Explorer extends HTMLElement {
  connectedCallback() {
    document.addEventListener("click", this, true);
    if (this.panel) return;
    this.common = words(COMMON);
    this.mark = `explorer-${++made}`;
    this.raw = {};
    this.initial = {};
    this.inputs = {};
    for (const [name, setting] of Object.entries(this.constructor.settings)) {
      this.initial[name] = this.getAttribute(name) ?? String(setting.initial);
      this.raw[name] = this.initial[name];
    }
    this.status = make("p", { class: "explorer-status", role: "status" });
    this.panel = make("div", { class: "explorer" });
    this.build();
    this.panel.append(this.status);
    this.read();
    this.append(this.panel);
    this.setAttribute("live", "");
    this.update();
  }

  disconnectedCallback() {
    document.removeEventListener("click", this, true);
  }

  handleEvent(event) {
    // The switch of language leads to the page as it stands.
    const link = event.target.closest?.("a[hreflang]");
    if (link) link.href = this.address(link.href);
  }

  /** The settings as numbers; what is no integer is given as it was typed. */
  get settings() {
    return Object.fromEntries(
      Object.entries(this.raw).map(([name, raw]) => [name, integer(raw) ?? raw]),
    );
  }

  set settings(given) {
    for (const [name, value] of Object.entries(given)) {
      if (!(name in this.raw)) {
        const known = Object.keys(this.raw).join(", ");
        throw new TypeError(`no setting is called ${name}; there are ${known}`);
      }
      this.raw[name] = String(value);
    }
    this.update();
  }

  /** Show the settings, and put them into the address a little later. */
  update() {
    for (const [name, input] of Object.entries(this.inputs)) {
      const typed = Number.isFinite(Number(this.raw[name])) ? this.raw[name] : "";
      if (input.value !== typed) input.value = typed;
      const wrong = this.wrong(name) !== null;
      input.setAttribute("aria-invalid", String(wrong));
    }
    this.draw();
    // On paper a setting that was not touched is the static figure.
    const { search } = new URL(this.address());
    this.toggleAttribute("changed", search.includes(`${this.constructor.key}.`));
    this.write();
  }

  /** Say why a setting cannot be: pieces of a sentence; null if it can. */
  wrong(name) {
    const { least, most, argument } = this.constructor.settings[name];
    const raw = this.raw[name].trim();
    const number = integer(raw);
    const say = this.common;
    if (raw === "") return say.empty(argument, least);
    if (number === null) return say.whole(argument, raw);
    if (number < least) return say.least(argument, raw, least);
    if (number > most) return say.most(argument, raw, most);
    return null;
  }

  /** Have a text read out. */
  say(text) {
    this.status.textContent = text;
  }

  /** Return an address with this state, and the rest of it as it was. */
  address(href = location.href) {
    const url = new URL(href);
    const mark = `${this.constructor.key}.`;
    for (const name of [...url.searchParams.keys()]) {
      if (name.startsWith(mark)) url.searchParams.delete(name);
    }
    for (const [name, raw] of Object.entries(this.raw)) {
      if (raw !== this.initial[name]) url.searchParams.set(mark + name, raw);
    }
    for (const [name, text] of Object.entries(this.extras())) {
      url.searchParams.set(mark + name, text);
    }
    return url.href;
  }

  extras() {
    return {};
  }

  restore() {}

  read() {
    const mark = `${this.constructor.key}.`;
    const extras = {};
    for (const [name, value] of new URLSearchParams(location.search)) {
      if (!name.startsWith(mark)) continue;
      const own = name.slice(mark.length);
      if (own in this.raw) this.raw[own] = value;
      else extras[own] = value;
    }
    this.restore(extras);
  }

  write() {
    // Browsers take only so many changes of the address in a second.
    clearTimeout(this.writing);
    this.writing = setTimeout(() => {
      const href = this.address();
      if (href !== location.href) history.replaceState(history.state, "", href);
    }, 300);
  }

  /** Make a labelled number between a button for less and one for more. */
  stepper(name) {
    const { least, symbol } = this.constructor.settings[name];
    const label = this.labels()[name];
    const id = `${this.mark}-${name}`;
    const input = make("input", {
      id,
      type: "number",
      inputmode: "numeric",
      min: least,
      step: 1,
      autocomplete: "off",
      oninput: () => this.change(name, input.value),
    });
    this.inputs[name] = input;
    const by = (step) => () => {
      const now = integer(this.raw[name]) ?? least - step;
      this.change(name, String(Math.max(least, now + step)));
    };
    const button = (sign, text, step) =>
      make("button", { type: "button", "aria-label": text, onclick: by(step) }, sign);
    return make(
      "div",
      { class: `explorer-stepper explorer-stepper-${name}` },
      make("label", { for: id }, label, " ", make("i", {}, symbol)),
      make(
        "div",
        {},
        button("−", this.common.less(label), -1),
        input,
        button("+", this.common.more(label), 1),
      ),
    );
  }

  /** Take what a reader chose. */
  change(name, raw) {
    this.raw[name] = raw;
    this.update();
  }

  /** Make a button with a picture, and text beside it or read out. */
  button(picture, text, act, attributes = {}) {
    const shown = make("span", {}, text);
    const button = make(
      "button",
      { type: "button", class: "explorer-button", onclick: act, ...attributes },
    );
    if (picture) button.append(icon(picture));
    button.append(shown);
    return button;
  }

  /** Give a button another picture and text. */
  relabel(button, picture, text) {
    button.replaceChildren(icon(picture), make("span", {}, text));
  }

  /** Make a button that copies what `text()` returns, and says so. */
  copier(picture, label, text) {
    const copy = async () => {
      try {
        await navigator.clipboard.writeText(text());
      } catch {
        return; // an insecure address has no clipboard; the text can be marked
      }
      this.relabel(button, picture, this.common.copied);
      this.say(this.common.copied);
      setTimeout(() => this.relabel(button, picture, label), 2000);
    };
    const button = this.button(picture, label, copy);
    button.classList.add("explorer-controls");
    return button;
  }
}

/** Read an integer; null if it is none. */
function integer(raw) {
  const text = String(raw).trim();
  return /^[+-]?\d+$/.test(text) ? Number(text) : null;
}
