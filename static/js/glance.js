// The figures at the top, as they tick, and what stands above them while something needs saying.

import { tone } from "./account.js";
import { day, dollars, fills, hoursAndMinutes, localClock, usd } from "./format.js";
import { now } from "./live.js";
import { showMark } from "./mark.js";

const nextDay = document.getElementById("next-day");

/** Writes only what changed, so that nothing flickers and no selection is lost. */
export function write(element, text) {
  if (element.textContent === text) return false;
  element.textContent = text;
  return true;
}

function moment(iso) {
  return `${day(iso)} ${iso.slice(11, 16)}`;
}

/** What a change is measured against, as the template's filter says it. */
function compared({ since, until, notional_usd: amount, complete }) {
  const lacks = complete ? "." : ", of which something is missing.";
  return `Against ${usd(amount)} from ${moment(since)} to ${moment(until)} UTC, the same time before${lacks}`;
}

function showTotal(card, total) {
  const figure = card.querySelector("[data-figure]");
  figure.title = `${total.notional_usd} USD`;
  const text = dollars(total.notional_usd, total.fills_not_priced);
  figure.classList.toggle("long", text.length > 14);
  if (write(figure, text)) flash(figure);
  write(card.querySelector("[data-fills]"), fills(total.fills));
  const forced = card.querySelector("[data-forced]");
  forced.hidden = total.forced_usd === "0";
  write(forced, `${usd(total.forced_usd)} forced`);
  card.toggleAttribute("data-stale", total.stale);
  showChange(card.querySelector("[data-change]"), total.before);
  showMark(card.querySelector("[data-mark]"), total, card.dataset.span);
}

function showChange(element, before) {
  element.hidden = !before?.change;
  element.toggleAttribute("data-doubtful", !before?.complete);
  write(element.querySelector("[data-percent]"), before?.change ?? "");
  element.title = before ? compared(before) : "";
}

function flash(element) {
  element.classList.remove("changed");
  void element.offsetWidth; // lets the animation begin anew
  element.classList.add("changed");
}

function showVenues(card, venues) {
  for (const line of card.querySelectorAll("[data-venues] [data-venue]")) {
    const { totals } = venues.find(({ venue }) => venue === line.dataset.venue) ?? {};
    if (!totals) continue; // a venue more or less reloads the page
    const { notional_usd: amount, fills_not_priced: notPriced, complete } = totals[card.dataset.span];
    const figure = line.querySelector("b");
    figure.title = `${amount} USD${complete ? "" : ", not complete"}`;
    line.toggleAttribute("data-lacking", !complete);
    write(figure, dollars(amount, notPriced));
  }
}

/** The words that say how is counted. */
function showChoices(preferences) {
  for (const words of document.querySelectorAll("[data-if]")) words.hidden = !preferences[words.dataset.if];
  for (const words of document.querySelectorAll("[data-unless]")) words.hidden = preferences[words.dataset.unless];
}

function showDays({ day: today, totals }) {
  const heading = document.querySelector('[data-span="today"] h2 a');
  write(heading, `Today, ${day(today)} (UTC)`);
  heading.href = heading.getAttribute("href").replace(/\d{4}-\d\d-\d\d/, today);
  for (const span of ["14d", "month", "all"]) {
    const link = document.querySelector(`[data-span="${span}"] h2 a`);
    link.href = `?from=${totals[span].since.slice(0, 10)}&to=${today}`;
  }
}

export function showNextDay() {
  const { at } = nextDay.dataset;
  const own = new Date(at).getHours() || new Date(at).getMinutes() ? `, ${localClock(at)} for you` : "";
  write(nextDay, `${own}, in ${hoursAndMinutes(Date.parse(at) - now())}`);
}

const percent = (progress) => Math.min(99, Math.floor(progress * 100));
const nameOf = ({ venue_name: venue, label }) => `${venue} · ${label}`;

function showReading(accounts) {
  const notice = document.getElementById("reading");
  const read = accounts.filter(
    (account) => account.is_enabled && account.is_backfilling && account.progress < 1 && ["works", "new"].includes(account.health.state),
  );
  notice.hidden = !read.length;
  if (!read.length) return;
  const progress = read.reduce((sum, account) => sum + account.progress, 0) / read.length;
  write(notice.querySelector("[data-percent]"), String(percent(progress)));
  notice.querySelector("progress").value = progress;
  const list = notice.querySelector("[data-accounts]");
  while (list.children.length > read.length) list.lastChild.remove();
  read.forEach((account, place) => {
    const left = account.backfill?.left;
    const item = list.children[place] ?? list.appendChild(document.createElement("span"));
    write(item, `${nameOf(account)} ${percent(account.progress)}%${left ? `, ${left}` : ""}`);
  });
}

/** What is wrong with perpdash itself. */
function showTrouble(words) {
  const notice = document.getElementById("trouble");
  write(notice, words);
  notice.hidden = !words;
}

/** Accounts nothing can be read from until their owner does something. */
function showNeeds(accounts) {
  const notices = document.getElementById("notices");
  const inNeed = new Map(accounts.filter((account) => tone(account) === "bad").map((item) => [String(item.id), item]));
  for (const notice of notices.querySelectorAll("[data-needs]")) {
    const account = inNeed.get(notice.dataset.needs);
    inNeed.delete(notice.dataset.needs);
    if (account) write(notice.querySelector("span"), account.health.text);
    else notice.remove();
  }
  for (const account of inNeed.values()) {
    const notice = document.createElement("p");
    notice.className = "notice bad";
    notice.dataset.needs = account.id;
    const link = document.createElement("a");
    link.href = `${notices.dataset.url}${account.id}/`;
    link.textContent = nameOf(account);
    const words = document.createElement("span");
    words.textContent = account.health.text;
    notice.append(link, " ", words);
    notices.append(notice);
  }
}

export function showGlance(summary) {
  showTrouble(summary.trouble);
  for (const card of document.querySelectorAll("#glance [data-span]")) {
    showTotal(card, summary.totals[card.dataset.span]);
    showVenues(card, summary.venues);
  }
  nextDay.dataset.at = summary.next_day_at;
  showDays(summary);
  showChoices(summary.preferences);
  showNextDay();
  showReading(summary.accounts);
  showNeeds(summary.accounts);
}
