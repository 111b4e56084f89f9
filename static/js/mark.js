// Whether a figure is complete, as the page's tag `mark` writes it.

import { day } from "./format.js";

function make(tag, className, text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function build(mark, key) {
  const complete = make("span", "mark-complete", "complete");
  const lacking = make("button", "mark-lacking", "not complete");
  lacking.type = "button";
  const why = make("span", "why");
  why.id = `why-${key}`;
  why.popover = "auto";
  why.role = "dialog";
  why.ariaLabel = "Why this is not complete";
  const list = make("span", "why-list");
  list.role = "list";
  why.append(make("strong", "", "Not complete"), list);
  lacking.setAttribute("popovertarget", why.id);
  mark.replaceChildren(complete, lacking, why);
}

/** Of a figure: `why` holds the sentences; `key` tells marks of a page apart. */
export function showMark(mark, { complete, stale, why, complete_from: since }, key) {
  if (!mark.querySelector(".mark-lacking")) build(mark, key); // of what was complete, only that is there
  const words = stale ? "not up to date" : "not complete";
  mark.querySelector(".mark-lacking").textContent = words;
  mark.querySelector("strong").textContent = `N${words.slice(1)}`;
  mark.querySelector(".mark-complete").hidden = !complete;
  mark.querySelector(".mark-lacking").hidden = complete;
  const list = mark.querySelector(".why-list");
  const sentences = since ? [`Complete since ${day(since)}.`, ...why] : why;
  if (!complete && [...list.children].map((item) => item.textContent).join() !== sentences.join()) {
    list.replaceChildren(
      ...sentences.map((sentence) => {
        const item = make("span", "", sentence);
        item.role = "listitem";
        return item;
      }),
    );
  }
}
