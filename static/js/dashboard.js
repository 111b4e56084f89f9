// The dashboard: what its address asks for, fetched and shown without a new page, and kept up to date.

import { showAccounts } from "./account.js";
import { beginCalendar, showCalendar } from "./calendar.js";
import { VolumeChart } from "./chart.js";
import { day } from "./format.js";
import { showGlance, showNextDay, write } from "./glance.js";
import { begin, now, onSummary } from "./live.js";
import { showKey } from "./states.js";
import { showKinds, showMarkets, showPeriods } from "./tables.js";

const RELOAD_EVERY = 1000; // a redraw a second is as live as an eye needs
const LONGEST_IN_LOCAL_DAYS = 93;
const TITLES = {
  volume: "Volume",
  liquidity: "Maker and taker volume",
  fees: "Fees",
  cumulative: "Volume added up",
};
const desk = document.getElementById("desk");
const part = (id) => document.getElementById(id);
const json = (id) => JSON.parse(part(id).textContent);
const ownZone = Intl.DateTimeFormat().resolvedOptions().timeZone;

// --- Addresses ---

/** The address of this page with other values: {name: value}; an empty value leaves the name out. */
function addressWith(changes) {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value === "") query.delete(name);
    else query.set(name, value);
  }
  return `${location.pathname}${query.size ? `?${query}` : ""}`;
}

const dataQuery = (link) => Object.fromEntries(new URLSearchParams(link.dataset.query));

function showControls(scope) {
  for (const link of document.querySelectorAll("a[data-query]")) link.href = addressWith(dataQuery(link));
  for (const link of document.querySelectorAll("a[data-is]")) {
    const [name, value] = link.dataset.is.split(" ");
    if (String(scope[name]) === value) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    if (name === "step") link.hidden = !scope.steps.includes(value);
  }
  part("by").hidden = scope.measure !== "volume";
  showDays(scope);
  showChips(scope.filters);
  showZone(scope);
}

function showDays({ first, last }) {
  const form = part("days");
  if (!form.contains(document.activeElement)) {
    form.elements.from.value = first;
    form.elements.to.value = last;
  }
  const kept = [...new URLSearchParams(location.search)].filter(([name]) => !["range", "from", "to", "step"].includes(name));
  for (const input of form.querySelectorAll("[type=hidden]")) input.remove();
  for (const [name, value] of kept) {
    form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
  }
}

function showChips(filters) {
  const list = part("chips");
  list.hidden = !filters.length;
  list.replaceChildren(
    ...filters.map(({ name, label }) => {
      const what = document.createElement("b");
      what.textContent = label;
      const cross = document.createElement("span");
      cross.ariaHidden = "true";
      cross.textContent = "×";
      const link = document.createElement("a");
      link.href = addressWith({ [name]: "" });
      link.ariaLabel = `Show all ${name}s again`;
      link.append(cross);
      const item = document.createElement("li");
      item.append(`${name} `, what, " ", link);
      return item;
    }),
  );
}

/** Days as the reader has them: offered where their own differ from UTC, and said where they are shown. */
function showZone({ is_local: isLocal, tz, first, last }) {
  const [words, link] = part("zone").children;
  const isShort = (Date.parse(last) - Date.parse(first)) / 86_400_000 < LONGEST_IN_LOCAL_DAYS;
  link.hidden = !isLocal && (!isShort || ["UTC", "Etc/UTC"].includes(ownZone));
  write(words, isLocal ? `Days of the chart and the markets are as in ${tz}.` : "Days are UTC, as at the venues.");
  write(link, isLocal ? "Show UTC days" : `Show days as in ${ownZone}`);
  link.href = addressWith(isLocal ? { days: "", tz: "" } : { days: "local", tz: ownZone });
}

// --- What is shown ---

/** Whether the last period goes on. */
function isUnderWay({ is_local: isLocal, tz, last }) {
  const today = isLocal ? new Intl.DateTimeFormat("en-CA", { timeZone: tz }).format(now()) : new Date(now()).toISOString();
  return last >= today.slice(0, 10);
}

let scope = json("volume-scope");
scope.isUnderWay = isUnderWay(scope);
const chart = new VolumeChart(part("volume-chart"), json("volume-series"), scope, (place) => open(chart.series.next[place]));

function showSeries(series) {
  chart.show(series, scope);
  showKey(part("key"), chart.key, series.state);
  write(document.querySelector("[data-measured]"), TITLES[scope.measure]);
  write(document.querySelector("[data-granularity]"), series.granularity);
  write(document.querySelector("[data-dates]"), `${day(scope.floor)} to ${day(scope.last)}`);
  write(document.querySelector("[data-zone]"), scope.is_local ? `(days as in ${scope.tz})` : "(UTC)");
  showEmpty(series);
}

/** Nothing to draw: why, and the one way on. */
function showEmpty({ complete }) {
  const [words, link] = part("chart-empty").children;
  const narrowed = scope.filters.map(({ label }) => label).join(", ");
  const nothing = complete.includes(false) ? "No fills read in these days so far" : "No fills in these days";
  write(words, `${nothing}${narrowed ? ` of ${narrowed}` : ""}.`);
  const isLongest = scope.range === "2y";
  link.hidden = isLongest && !narrowed;
  write(link, isLongest ? "Show everything" : "Show two years");
  link.href = isLongest ? addressWith({ venue: "", market: "", account: "" }) : addressWith({ range: "2y", from: "", to: "", step: "" });
  part("chart-empty").hidden = !chart.isEmpty;
}

// --- Going somewhere ---

let wanted = location.search; // what was asked for last: another than what is shown while it loads, or when that failed
let isBehind = false;
let asked = 0;
let reloadTimer = 0;
let isLoading = false;
let loading = new AbortController();

async function load() {
  loading.abort(); // what was on its way is of another view
  loading = new AbortController();
  wanted = location.search;
  const turn = ++asked;
  isLoading = true;
  desk.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(`${desk.dataset.url}${wanted}`, { headers: { Accept: "application/json" }, signal: loading.signal });
    if (answer.redirected) return location.reload(); // to the sign-in page
    if (!answer.ok) throw new Error(`${answer.status}`);
    const { series, markets, market_count: marketCount, kinds, calendar, scope: answered } = await answer.json();
    if (turn !== asked) return;
    scope = { ...answered, isUnderWay: isUnderWay(answered) };
    showSeries(series);
    showPeriods(series);
    showControls(scope);
    showMarkets(markets, marketCount, scope, addressWith);
    showKinds(kinds);
    showCalendar(calendar);
    isBehind = false;
    complain("");
  } catch {
    if (turn !== asked) return;
    isBehind = true;
    complain("perpdash did not answer, so this may not be the newest. It is asked again as soon as it is back.");
  } finally {
    if (turn === asked) {
      isLoading = false;
      desk.removeAttribute("aria-busy");
    }
  }
}

function complain(text) {
  const alert = part("chart-error");
  write(alert, text);
  alert.hidden = !text;
}

function reloadSoon() {
  reloadTimer ||= setTimeout(() => {
    reloadTimer = 0;
    if (isLoading) reloadSoon(); // an answer that is awaited must not be put off for ever
    else load();
  }, RELOAD_EVERY);
}

/** Shows another view of this page, or goes to another page. */
async function open(address) {
  const { pathname, search } = new URL(address, location.href);
  if (pathname !== location.pathname) return location.assign(address);
  if (search === wanted && !isBehind) return;
  history.pushState(null, "", address);
  await load();
  write(part("said"), `${part("chart-title").textContent}, ${document.querySelector("[data-dates]").textContent}`);
  // The link that was followed may be gone, and what it changed out of sight.
  if (document.activeElement === document.body) part("chart-title").focus({ preventScroll: true });
}

/** A link to another view of this page; not one to a file, and not one that is to open elsewhere. */
function isView(link) {
  return link && link.origin === location.origin && link.pathname === location.pathname && !link.hasAttribute("download") && !link.hash;
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[href]");
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey || event.button || !isView(link)) return;
  event.preventDefault();
  const table = link.closest(".scroll"); // its heads, and the rest of its rows: who asks for them looks at it
  const stays = table && !link.closest("tbody");
  document.querySelector("#markets :popover-open")?.hidePopover(); // else its table stays as it is
  await open(link.href);
  const isLost = [document.body, link, part("chart-title")].includes(document.activeElement);
  if (stays && isLost && !link.checkVisibility()) table.focus({ preventScroll: true });
  if (!stays && desk.getBoundingClientRect().top < 0) desk.scrollIntoView();
});

part("days").addEventListener("submit", (event) => {
  event.preventDefault();
  const { from, to } = event.target.elements;
  open(addressWith({ from: from.value, to: to.value, range: "", step: "" }));
});

addEventListener("popstate", load);

// --- Put together ---

let changed = null; // what would change the bars, to tell a summary that brings something from one that does not

showSeries(chart.series);
showControls(scope);
beginCalendar();

onSummary((summary) => {
  showGlance(summary);
  if (!showAccounts(summary.accounts)) return location.reload();
  // Fills, what is missing of them, or a new day: each changes bars.
  const { all } = summary.totals;
  const state = JSON.stringify([summary.day, all.notional_usd, all.forced_usd, all.fills, all.why]);
  if (isBehind || (changed !== null && state !== changed)) reloadSoon();
  changed = state;
});
begin(json("volume-summary"));
setInterval(showNextDay, 15_000);
