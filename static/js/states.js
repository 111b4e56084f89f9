// How complete a period is: in words, and as the chart and the calendar draw it.

export const STATES = {
  complete: "complete",
  unread: "not read",
  not_asked: "not asked for",
  gap: "could not be read",
  out_of_reach: "out of the venue’s reach",
  held: "rows held",
  stale: "not up to date",
  not_priced: "not all priced",
};

function entry(className, text, colour = "") {
  const swatch = document.createElement("i");
  swatch.className = `swatch ${className}`;
  if (colour) swatch.style.backgroundColor = colour;
  const element = document.createElement("span");
  element.append(swatch, text);
  return element;
}

/** The key of a drawing: its colours, then the states that occur in it. */
export function showKey(element, colours, states) {
  const occurring = Object.keys(STATES).filter((state) => state !== "complete" && states.includes(state));
  const entries = [
    ...colours.map(({ name, colour }) => entry("", name, colour)),
    ...occurring.map((state) => entry(state, STATES[state])),
  ];
  const text = (parts) => parts.map((part) => part.outerHTML).join("");
  if (text([...element.children]) !== text(entries)) element.replaceChildren(...entries);
}
