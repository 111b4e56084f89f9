// Two years of days. The server drew them; here they are kept up to date, said under the pointer, and walked by arrow keys.

import { day, number, usd } from "./format.js";
import { STATES, showKey } from "./states.js";
import { hideTip, showTip } from "./tip.js";

const SHADES = 6;
const MILLISECONDS = 86_400_000;
const KEYS = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -7, ArrowRight: 7, PageUp: -28, PageDown: 28 };
const weeks = document.getElementById("calendar");
const box = document.getElementById("years");
let cells = [];

function at(first, index) {
  return new Date(Date.parse(first) + index * MILLISECONDS).toISOString().slice(0, 10);
}

/** Where the shades begin, so that each has as many days. For shading alone: amounts as floats. */
function edgesOf(amounts) {
  const ordered = amounts.filter(Boolean).sort((one, two) => one - two);
  return Array.from({ length: ordered.length ? SHADES : 0 }, (_, shade) => ordered[Math.floor((ordered.length * shade) / SHADES)]);
}

export function showCalendar({ first, days, state, url }) {
  const amounts = days.map((amount) => (amount === null ? 0 : number(amount)));
  const edges = edgesOf(amounts);
  const known = days.filter((amount) => amount !== null).length;
  if (known !== cells.length) return location.reload(); // a new day, rarely: the server draws it
  cells.forEach((cell, index) => {
    const date = at(first, index);
    const shade = amounts[index] ? edges.filter((edge) => edge <= amounts[index]).length : 0;
    set(cell, "class", `s${shade} ${state[index]}`);
    set(cell, "aria-label", `${day(date)}: ${usd(days[index])}, ${STATES[state[index]]}`);
    set(cell, "href", url.replace("{day}", date));
  });
  showCalendarKey();
}

function set(cell, name, value) {
  if (cell.getAttribute(name) !== value) cell.setAttribute(name, value);
}

function showCalendarKey() {
  showKey(document.getElementById("calendar-key"), [], [...new Set(cells.map((cell) => cell.className.split(" ")[1]))]);
}

function walk(event) {
  const place = cells.indexOf(event.target);
  if (place < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
  const last = cells.length - 1;
  const wanted = { Home: 0, End: last }[event.key] ?? (event.key in KEYS ? place + KEYS[event.key] : -1);
  if (wanted < 0 || wanted > last) return;
  event.preventDefault();
  cells[wanted].focus();
}

function say(cell) {
  const { left, bottom } = cell.getBoundingClientRect();
  const [title, said] = cell.getAttribute("aria-label").split(": ");
  const [volume, state] = said.split(", ");
  const rows = [
    { name: "volume", text: volume },
    { name: "state", text: state },
  ];
  showTip({ x: left, y: bottom - 8 }, { title, rows });
}

export function beginCalendar() {
  cells = [...weeks.querySelectorAll("a")];
  box.scrollLeft = box.scrollWidth; // the newest days first
  showCalendarKey();
  weeks.addEventListener("keydown", walk);
  weeks.addEventListener("focusin", ({ target }) => {
    for (const cell of weeks.querySelectorAll('a:not([tabindex="-1"])')) cell.tabIndex = -1;
    target.tabIndex = 0;
    if (target.matches(":focus-visible")) say(target);
  });
  weeks.addEventListener("focusout", hideTip);
  weeks.addEventListener("pointerover", ({ target }) => (target.matches("a") ? say(target) : hideTip()));
  weeks.addEventListener("pointerleave", hideTip);
}
