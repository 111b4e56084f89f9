// The dashboard: figures as they tick, the chart and tables of the chosen range.

import { showAccounts } from "./account.js";
import { VolumeChart, colourOf } from "./chart.js";
import { count, day, fills, hoursAndMinutes, localClock, share, sum, usd } from "./format.js";
import { begin, now, onSummary } from "./live.js";
import { showMark } from "./mark.js";

const RELOAD_EVERY = 1000; // a redraw a second is as live as an eye needs
const panel = document.getElementById("chart");
const json = (id) => JSON.parse(document.getElementById(id).textContent);

// --- Figures ---

function write(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

function showTotal(card, total, span) {
  const figure = card.querySelector("[data-figure]");
  const before = figure.title;
  figure.title = `${total.notional_usd} USD`;
  const text = usd(total.notional_usd);
  figure.classList.toggle("long", text.length > 14);
  if (write(figure, text) && before) flash(figure);
  write(card.querySelector("[data-fills]"), fills(total.fills));
  const forced = card.querySelector("[data-forced]");
  forced.hidden = total.forced_usd === "0";
  write(forced, ` · ${usd(total.forced_usd)} forced`);
  card.toggleAttribute("data-stale", total.stale);
  showMark(card.querySelector("[data-mark]"), total, span);
}

function flash(element) {
  element.classList.remove("changed");
  void element.offsetWidth; // lets the animation begin anew
  element.classList.add("changed");
}

function showVenues(summary) {
  const line = document.querySelector("[data-venues]");
  line.hidden = summary.venues.length < 2;
  line.replaceChildren(
    ...summary.venues.map(({ name, totals }) => {
      const amount = document.createElement("b");
      amount.textContent = usd(totals["24h"].notional_usd);
      const venue = document.createElement("span");
      venue.append(`${name} `, amount);
      return venue;
    }),
  );
}

const nextDay = document.getElementById("next-day");

function showNextDay() {
  const { at } = nextDay.dataset;
  const own = new Date(at).getHours() || new Date(at).getMinutes() ? `, ${localClock(at)} for you` : "";
  write(nextDay, `${own}, in ${hoursAndMinutes(Date.parse(at) - now())}`);
}

// --- The range: chart and tables ---

const chart = new VolumeChart(document.getElementById("volume-chart"), json("volume-series"));
let range = chart.series.range;
let wanted = range; // what was asked for last: another than the one shown while it loads, or when that failed
let isBehind = false;
let asked = 0;
let reloadTimer = 0;
let changed = null; // what would change the bars, to tell a summary that brings something from one that does not

function showSeries(series) {
  chart.show(series);
  showKey(series);
  showPeriods(series);
  write(document.querySelector("[data-granularity]"), series.granularity);
  const empty = document.getElementById("chart-empty");
  write(empty, series.complete.includes(false) ? "No fills read in this range so far." : "No fills in this range.");
  empty.hidden = !chart.isEmpty;
}

function showKey(series) {
  const entries = series.venues.map(({ venue, name }, place) => keyEntry(name, colourOf(venue, place)));
  if (series.complete.includes(false)) entries.push(keyEntry("not complete", null));
  document.getElementById("key").replaceChildren(...entries);
}

function keyEntry(text, colour) {
  const swatch = document.createElement("i");
  swatch.className = colour ? "swatch" : "swatch hatched";
  if (colour) swatch.style.backgroundColor = colour;
  const entry = document.createElement("span");
  entry.append(swatch, text);
  return entry;
}

function cell(tag, text, { className = "", title = "" } = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  if (title) element.title = title;
  if (tag === "th") element.scope = "row";
  return element;
}

const amountCell = (amount) => cell("td", usd(amount), { className: "number", title: amount });

function row(...cells) {
  const element = document.createElement("tr");
  element.append(...cells);
  return element;
}

function showPeriods({ days, venues, complete, why, granularity }) {
  const table = document.getElementById("periods");
  const heads = [granularity === "week" ? "Week from" : "Day", "Total", ...venues.map(({ name }) => name), "State"];
  table.tHead.replaceChildren(
    row(
      ...heads.map((text, place) => {
        const isAmount = place > 0 && place < heads.length - 1;
        const head = cell("th", text, { className: isAmount ? "number" : "" });
        head.scope = "col";
        return head;
      }),
    ),
  );
  const rows = days.map((date, place) => {
    const amounts = venues.map((venue) => venue.notional_usd[place]);
    const state = complete[place]
      ? cell("td", "complete")
      : cell("td", "not complete", { className: "lack", title: why[place].join(" ") });
    return row(cell("th", date), amountCell(sum(amounts)), ...amounts.map(amountCell), state);
  });
  table.tBodies[0].replaceChildren(...rows.reverse());
}

function feesCell({ fees_usd: fees, fees_complete: isComplete }) {
  if (isComplete) return amountCell(fees);
  const lacks = document.createElement("abbr");
  lacks.className = "quiet";
  lacks.title = "Fees in coins that have no price in dollars here are not in this sum.";
  lacks.textContent = fees === "0" ? "not priced" : "\u2009+";
  const shown = fees === "0" ? cell("td", "", { className: "number" }) : amountCell(fees);
  shown.append(lacks);
  return shown;
}

function showMarkets(markets, venues) {
  const names = Object.fromEntries(venues.map(({ venue, name }) => [venue, name]));
  const whole = sum(markets.map(({ notional_usd: amount }) => amount));
  const body = document.querySelector("#markets tbody");
  if (body.querySelector(":popover-open")) return; // somebody reads why: the next round will do
  document.getElementById("markets").classList.toggle("one-venue", venues.length < 2);
  const rows = markets.map((market, place) => {
    const { notional_usd: amount, maker_usd: maker, forced_usd: forced } = market;
    const state = document.createElement("td");
    const mark = document.createElement("span");
    mark.className = "mark";
    state.append(mark);
    showMark(mark, market, `${place + 1}m`);
    return row(
      cell("th", market.market),
      cell("td", names[market.venue] ?? market.venue),
      amountCell(amount),
      state,
      cell("td", share(amount, whole), { className: "number" }),
      cell("td", count(market.fills), { className: "number" }),
      cell("td", share(maker, amount), { className: "number", title: maker }),
      feesCell(market),
      forced === "0" ? cell("td", "", { className: "number" }) : amountCell(forced),
    );
  });
  if (!rows.length) {
    const empty = cell("td", "No fills in this range.", { className: "quiet" });
    empty.colSpan = 9;
    rows.push(row(empty));
  }
  body.replaceChildren(...rows);
}

function showKinds(kinds) {
  const entries = kinds.map(({ label, usd: amount, fills: number, counts }) => {
    const entry = document.createElement("li");
    if (!counts) entry.className = "apart";
    const words = document.createElement("span");
    words.className = "quiet";
    words.textContent = `${fills(number)}${counts ? "" : ", not in the volume"}`;
    entry.append(`${label} `, cell("b", usd(amount), { title: amount }), " ", words);
    return entry;
  });
  document.getElementById("kinds").replaceChildren(...entries);
}

async function load(name) {
  wanted = name;
  const turn = ++asked;
  panel.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`${panel.dataset.url}?range=${encodeURIComponent(wanted)}`, {
      headers: { Accept: "application/json" },
    });
    if (answer.redirected) return location.reload(); // to the sign-in page
    if (!answer.ok) throw new Error(`${answer.status}`);
    const { series, markets, kinds } = await answer.json();
    if (turn !== asked) return;
    range = series.range;
    showSeries(series);
    showMarkets(markets, series.venues);
    showKinds(kinds);
    showRange();
    isBehind = false;
    complain("");
  } catch {
    if (turn !== asked) return;
    isBehind = true;
    complain("perpdash did not answer, so this may not be the newest. It is asked again as soon as it is back.");
  } finally {
    if (turn === asked) panel.removeAttribute("aria-busy");
  }
}

function complain(text) {
  const alert = document.getElementById("chart-error");
  write(alert, text);
  alert.hidden = !text;
}

function showRange() {
  for (const link of document.querySelectorAll("[data-range]")) {
    if (link.dataset.range === range) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}

function reloadSoon() {
  if (!reloadTimer) {
    reloadTimer = setTimeout(() => {
      reloadTimer = 0;
      load(wanted);
    }, RELOAD_EVERY);
  }
}

// --- Put together ---

for (const link of document.querySelectorAll("[data-range]")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (link.dataset.range === wanted) return;
    history.pushState({ range: link.dataset.range }, "", link.href);
    load(link.dataset.range);
  });
}
const firstRange = range;
addEventListener("popstate", () => load(new URLSearchParams(location.search).get("range") ?? firstRange));

showSeries(chart.series);

onSummary((summary) => {
  for (const card of document.querySelectorAll("[data-span]")) {
    showTotal(card, summary.totals[card.dataset.span], card.dataset.span);
  }
  showVenues(summary);
  write(document.querySelector("[data-day]"), day(summary.day));
  nextDay.dataset.at = summary.next_day_at;
  showNextDay();
  if (!showAccounts(summary.accounts)) return location.reload();
  // Fills of the range, what is missing of it, or a new day: each changes bars.
  const { all } = summary.totals;
  const state = JSON.stringify([summary.day, all.notional_usd, all.forced_usd, all.fills, all.why]);
  const isInRange = summary.last_changed_day === null || summary.last_changed_day >= chart.series.days[0];
  if (isBehind || (changed !== null && state !== changed && isInRange)) reloadSoon();
  changed = state;
});
begin(json("volume-summary"));
setInterval(showNextDay, 15_000);
