// What every page has: times that read as people say them, and in the reader's own time zone beside UTC; reasons that
// open beside their mark; and messages that are also heard.

import { localClock, localMoment, span } from "./format.js";
import { now } from "./live.js";

function tick() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const text = `${span(now() - Date.parse(time.dateTime))} ago`;
    if (time.textContent === text) continue;
    time.textContent = text;
    time.title = `${utcMoment(time.dateTime)}, ${ownMoment(time.dateTime)}`;
  }
}

const own = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const ownMoment = (iso) => own.format(new Date(iso));
const utcMoment = (iso) => `${new Date(iso).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** What a time in UTC is for the reader: the clock alone where it is the same day. Nothing for who lives by UTC. */
function here(iso) {
  const at = new Date(iso);
  if (!at.getTimezoneOffset()) return "";
  return at.getDate() === at.getUTCDate() ? localClock(iso) : localMoment(iso);
}

/** Pages speak UTC. Beside it stands the reader's own time, and the title has it in full. */
export function localTimes(root = document) {
  for (const time of root.querySelectorAll("time[data-local]")) {
    if (time.title) continue;
    time.title = ownMoment(time.dateTime);
    const text = here(time.dateTime);
    if (!text) continue;
    const beside = document.createElement("span");
    beside.className = "here";
    beside.textContent = ` (${text} for you)`;
    time.after(beside);
  }
}

// Without this the browser shows a popover in the middle of the page, which is well enough.
function placeReasons(event) {
  const reasons = event.target;
  if (event.newState !== "open" || !reasons.classList?.contains("why")) return;
  const button = document.querySelector(`[popovertarget="${CSS.escape(reasons.id)}"]`).getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = reasons;
  const gap = 8;
  const left = Math.max(gap, Math.min(button.right - width, document.documentElement.clientWidth - width - gap));
  const isBelow = button.bottom + gap + height < innerHeight || button.top < height;
  Object.assign(reasons.style, {
    margin: "0",
    left: `${left}px`,
    top: `${isBelow ? button.bottom + gap : button.top - gap - height}px`,
  });
}

// A screen reader says what arrives in a status region, not what a page came with.
function sayMessages() {
  const messages = document.querySelector(".messages");
  messages?.replaceChildren(...messages.children);
}

tick();
localTimes();
setInterval(tick, 1000);
setTimeout(sayMessages, 500);
document.addEventListener("toggle", placeReasons, true);
