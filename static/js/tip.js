// The one small panel that says what is under the pointer. What it says stands in tables and labels as well.

const GAP = 14;
const tip = document.getElementById("tip");

function line(className, ...texts) {
  const element = document.createElement("p");
  element.className = className;
  for (const text of texts) {
    const part = document.createElement(text instanceof Node ? "span" : "b");
    part.append(text);
    element.append(part);
  }
  return element;
}

function swatch(colour, name) {
  const label = document.createElement("span");
  const square = document.createElement("i");
  square.className = "swatch";
  square.style.backgroundColor = colour;
  label.append(square, name);
  return label;
}

/**
 * At a place of the page: a title; rows of {name, text, colour}, colour being optional; notes, which are sentences.
 */
export function showTip({ x, y }, { title, rows = [], notes = [] }) {
  tip.replaceChildren(
    line("tip-title", title),
    ...rows.map(({ name, text, colour, isTotal }) =>
      line(isTotal ? "tip-row tip-total" : "tip-row", colour ? swatch(colour, name) : document.createTextNode(name), text),
    ),
    ...notes.map((note) => line("tip-note", document.createTextNode(note))),
  );
  tip.hidden = false;
  Object.assign(tip.style, { left: "0", top: "0" }); // or its place would bend its size
  const { offsetWidth: width, offsetHeight: height } = tip;
  const room = document.documentElement.clientWidth;
  const left = x + GAP + width > room ? x - GAP - width : x + GAP;
  const top = y + GAP + height > innerHeight ? y - GAP - height : y + GAP;
  Object.assign(tip.style, { left: `${Math.max(4, Math.min(left, room - width - 4))}px`, top: `${Math.max(4, top)}px` });
}

export function hideTip() {
  tip.hidden = true;
}
