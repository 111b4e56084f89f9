// An account as templates/volume/_account.html shows it, kept up to date.

import { count, day } from "./format.js";
import { now } from "./live.js";

const BAD = ["rejected", "unreadable", "puzzled"];
const EXPIRY_WARNING = 14 * 86_400_000; // milliseconds

/** ok, note, warn, bad or off, as the template's filter says it. */
export function tone(account) {
  if (!account.is_enabled) return "off";
  if (BAD.includes(account.health.state)) return "bad";
  const states = new Set(account.lacks.map((lack) => lack.state));
  if (account.health.state === "unavailable" || account.held || states.has("gap") || states.has("stale")) return "warn";
  if (diesSoon(account)) return "warn";
  return states.size || account.health.state === "new" ? "note" : "ok";
}

function diesSoon({ expires_at: expiresAt }) {
  return expiresAt !== null && Date.parse(expiresAt) - now() < EXPIRY_WARNING;
}

/** What the key may do beyond reading; nothing for one that only reads. */
function powers({ may_trade: mayTrade, may_withdraw: mayWithdraw, health }) {
  const can = [mayTrade && "trade", mayWithdraw && "withdraw"].filter(Boolean);
  if (!can.length && health.reason === "can_trade") return "can do more than read";
  return can.length ? `can ${can.join(" and ")}` : "";
}

function mainLack(account) {
  return account.lacks.reduce((last, lack) => (last && Date.parse(last.until) >= Date.parse(lack.until) ? last : lack), null);
}

/** Writes only what changed, so that nothing flickers and no selection is lost. */
function write(element, text, isShown = true) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !isShown;
}

export function showAccount(card, account) {
  const part = (name) => card.querySelector(`[data-${name}]`);
  card.dataset.tone = tone(account);
  card.dataset.state = account.health.state;
  card.toggleAttribute("data-dying", diesSoon(account));
  write(part("name"), `${account.venue_name} · ${account.label}`);
  showFreshness(part("fresh"), account.fresh_at);
  write(
    part("health"),
    account.is_enabled || account.retired_at
      ? account.health.text || "Added. Its first reading begins."
      : "Paused. What was read stays; nothing new is read.",
  );
  const can = powers(account);
  write(part("powers"), can ? `This key ${can}.` : "", Boolean(can));
  write(
    part("since"),
    account.complete_from ? completeWords(account) : "",
    Boolean(account.complete_from),
  );
  const lack = mainLack(account);
  write(part("lack"), lack ? `${lack.why} ${lack.remedy}`.trim() : "", Boolean(lack));
  const rows = `${count(account.held)} ${account.held === 1 ? "row" : "rows"}`;
  write(part("held"), `${rows} held: not understood, not counted.`, account.held > 0);
  const percent = Math.min(99, Math.floor(account.progress * 100));
  part("progress").hidden = account.progress >= 1 || !account.is_enabled;
  card.querySelector("progress").value = account.progress;
  write(part("progress-text"), `${progressWords(account)} ${percent}%${paceWords(account.backfill)}`);
}

function completeWords({ held, complete_from: from, is_stale: isStale }) {
  const words = held ? "Read without gaps since" : "Complete since";
  return `${words} ${day(from)}${isStale ? ", up to its last reading" : ""}.`;
}

function progressWords({ is_backfilling: isBackfilling, health }) {
  if (!isBackfilling) return "Backfill stopped at";
  return ["works", "new"].includes(health.state) ? "Reading your history:" : "History read so far:";
}

/** Where the reading is, how fast, and how long still: as the template says it. */
function paceWords(backfill) {
  if (!backfill) return "";
  const { reached_at: at, fills_per_second: rate, left } = backfill;
  const speed = rate ? `${count(Math.round(rate))} new fills a second` : "";
  return ["", `now at ${day(at)}`, speed, left].filter((words, place) => words || !place).join(", ");
}

function showFreshness(element, freshAt) {
  if (!freshAt) return;
  let time = element.querySelector("time");
  if (!time) {
    time = document.createElement("time");
    time.dataset.ago = "";
    element.replaceChildren("Read ", time, ".");
    time.textContent = "now";
  }
  time.dateTime = freshAt;
}

/** Shows every account of the summary on its card. False if the page has other accounts than the summary. */
export function showAccounts(accounts) {
  const cards = [...document.querySelectorAll("#accounts [data-account]")];
  const ids = accounts.map((account) => String(account.id));
  if (cards.length !== ids.length || cards.some((card, place) => card.dataset.account !== ids[place])) return false;
  accounts.forEach((account, place) => showAccount(cards[place], account));
  return true;
}
