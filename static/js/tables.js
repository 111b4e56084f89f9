// The tables of the dashboard: periods, markets and kinds of fill, as the templates write them.

import { count, dollars, fills, usd } from "./format.js";
import { showMark } from "./mark.js";
import { STATES } from "./states.js";

const PERIODS = { day: "Day", week: "Week from", month: "Month from" };
const WORDS_FIRST = ["market", "venue"]; // sorted from A on at first, all others from the largest on
const FEES_LACK = "Fees in coins that have no price in dollars here are not in this sum.";

function cell(tag, content, { className = "", title = "", label = "" } = {}) {
  const element = document.createElement(tag);
  element.append(content);
  if (className) element.className = className;
  if (title) element.title = title;
  if (label) element.dataset.label = label;
  if (tag === "th") element.scope = "row";
  return element;
}

function link(href, text) {
  const element = document.createElement("a");
  element.href = href;
  element.textContent = text;
  return element;
}

function unseen(text) {
  const element = document.createElement("span");
  element.className = "unseen";
  element.textContent = text;
  return element;
}

const numberCell = (text, label = "") => cell("td", text, { className: "number", label });
const amountCell = (amount, label = "") => cell("td", usd(amount), { className: "number", title: amount, label });

function row(...cells) {
  const element = document.createElement("tr");
  element.append(...cells);
  return element;
}

/** Puts new rows into a table, and the focus back on the link that had it. */
function fill(body, rows) {
  const focused = body.contains(document.activeElement) ? document.activeElement.href : "";
  body.replaceChildren(...rows);
  if (focused) [...body.querySelectorAll("a")].find(({ href }) => href === focused)?.focus({ preventScroll: true });
}

let hidden = null; // the series of a table that is not open

/** The table behind the chart: thousands of cells, so only while somebody looks at them. */
export function showPeriods(series) {
  const details = document.querySelector(".as-table");
  hidden = details.open ? null : series;
  if (details.open) drawPeriods(series);
  details.ontoggle ??= () => details.open && hidden && showPeriods(hidden);
}

function drawPeriods(series) {
  const table = document.getElementById("periods");
  const names = series.stacks.map(({ name }) => name);
  const heads = [PERIODS[series.granularity], "Total", ...names, "Added up", "Maker", "Taker", "Fees", "Forced", "Fills", "State"];
  table.tHead.replaceChildren(
    row(
      ...heads.map((text) => {
        const head = cell("th", text);
        head.scope = "col";
        return head;
      }),
    ),
  );
  const columns = [
    ...series.stacks.map((stack) => stack.notional_usd),
    series.cumulative_usd,
    series.maker_usd,
    series.taker_usd,
    series.fees_usd,
    series.forced_usd,
  ];
  const rows = series.days.map((date, place) => {
    const state = series.state[place];
    const why = series.why[place].join(" ");
    const words = cell("td", STATES[state], state === "complete" ? {} : { className: "lack", title: why });
    if (state !== "complete") words.append(unseen(`: ${why}`));
    return row(
      cell("th", link(series.next[place], date)),
      cell("td", usd(series.total_usd[place]), { title: series.total_usd[place] }),
      ...columns.map((amounts) => cell("td", usd(amounts[place]))),
      cell("td", count(series.fills[place])),
      words,
    );
  });
  fill(table.tBodies[0], rows.reverse());
}

function feesCell({ fees_usd: fees, fees_complete: isComplete }) {
  if (isComplete) return amountCell(fees, "Fees");
  const lacks = document.createElement("abbr");
  lacks.className = "quiet";
  lacks.title = FEES_LACK;
  lacks.textContent = fees === "0" ? "not priced" : "\u2009+";
  const shown = fees === "0" ? numberCell("", "Fees") : amountCell(fees, "Fees");
  shown.append(lacks);
  return shown;
}

function stateCell(market, key) {
  const mark = document.createElement("span");
  mark.className = "mark";
  showMark(mark, market, key);
  return cell("td", mark, { label: "State" });
}

/** Of `whole` markets those that are shown. `addressWith` makes the address of this page with other values: {name: value}. */
export function showMarkets(markets, whole, { sort }, addressWith) {
  const table = document.getElementById("markets");
  const body = table.tBodies[0];
  if (body.querySelector(":popover-open")) return; // somebody reads why: the next round will do
  const rows = markets.map((market, place) => {
    const venue = cell("td", link(addressWith({ venue: market.venue }), market.venue_name));
    venue.dataset.venue = market.venue;
    return row(
      cell("th", link(market.url, market.market)),
      venue,
      cell("td", dollars(market.notional_usd, market.fills_not_priced), { className: "number chief", title: market.notional_usd, label: "Volume" }),
      numberCell(market.share, "Share"),
      numberCell(count(market.fills), "Fills"),
      market.average_usd === "0" ? numberCell("", "Average") : amountCell(market.average_usd, "Average"),
      cell("td", market.maker_share, { className: "number", title: market.maker_usd, label: "Maker" }),
      feesCell(market),
      numberCell(market.fee_rate, "Fee rate"),
      market.forced_usd === "0" ? numberCell("", "Forced") : amountCell(market.forced_usd, "Forced"),
      stateCell(market, `${place + 1}m`),
    );
  });
  if (!rows.length) {
    const empty = cell("td", "No fills here.", { className: "quiet" });
    empty.colSpan = table.tHead.rows[0].cells.length;
    rows.push(row(empty));
    rows[0].className = "none";
  }
  fill(body, rows);
  for (const head of table.tHead.querySelectorAll("[data-column]")) showHead(head, sort, addressWith);
  const more = document.getElementById("more-markets");
  more.hidden = markets.length === whole;
  more.firstElementChild.textContent = `The first ${count(markets.length)} of ${count(whole)} markets, as sorted.`;
  more.querySelector("a").href = addressWith({ markets: "all" });
}

function showHead(head, sort, addressWith) {
  const { column } = head.dataset;
  const first = WORDS_FIRST.includes(column) ? column : `-${column}`;
  const other = first.startsWith("-") ? column : `-${column}`;
  head.querySelector("a").href = addressWith({ sort: sort === first ? other : first });
  if (sort.replace(/^-/, "") === column) head.ariaSort = sort.startsWith("-") ? "descending" : "ascending";
  else head.removeAttribute("aria-sort");
}

export function showKinds(kinds) {
  const entries = kinds.map(({ label, usd: amount, fills: number, fills_not_priced: notPriced, counts }) => {
    const entry = document.createElement("li");
    if (!counts) entry.className = "apart";
    const words = document.createElement("span");
    words.className = "quiet";
    words.textContent = `${fills(number)}${counts ? "" : ", not in the volume"}`;
    entry.append(`${label} `, cell("b", dollars(amount, notPriced), { title: amount }), " ", words);
    return entry;
  });
  document.getElementById("kinds").replaceChildren(...entries);
}
