// What every page has: the live indicator, times that read as people say them, and reasons that open beside their mark.

import { localMoment, span } from "./format.js";
import { now } from "./live.js";

function tick() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const text = `${span(now() - Date.parse(time.dateTime))} ago`;
    if (time.textContent !== text) time.textContent = text;
  }
}

export function localTimes(root = document) {
  for (const time of root.querySelectorAll("time[data-local]")) {
    if (time.title) continue;
    time.title = time.textContent;
    time.textContent = localMoment(time.dateTime);
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

tick();
localTimes();
setInterval(tick, 1000);
document.addEventListener("toggle", placeReasons, true);
