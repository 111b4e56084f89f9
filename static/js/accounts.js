// The list of accounts and the page of one: health, freshness and progress as they change.

import { showAccount, showAccounts } from "./account.js";
import { onSummary } from "./live.js";
import { localTimes } from "./page.js";

const page = document.getElementById("account-page"); // of one account, or else:
const list = document.getElementById("accounts");
const root = page ?? list;
const RELOAD_EVERY = 2000;
const known = new Map(); // the text of every part as the server last wrote it
let shown = "";
let timer = 0;

/** What the server writes (ledger, days, runs, held rows) is fetched anew as it stands on this very page. */
async function reloadParts() {
  timer = 0;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(root.id);
  if (!fresh) return;
  const parts = [...fresh.querySelectorAll("[data-part]")];
  for (const part of parts) {
    const { part: name } = part.dataset;
    const text = part.textContent;
    const old = root.querySelector(`[data-part="${name}"]`);
    if (!old) {
      root.insertBefore(part, root.querySelector('[data-part="runs"]'));
    } else if (text !== (known.get(name) ?? old.textContent) && !isInUse(old)) {
      old.replaceWith(part);
    } else {
      continue;
    }
    known.set(name, text);
  }
  for (const old of root.querySelectorAll("[data-part]")) {
    if (!parts.some((part) => part.dataset.part === old.dataset.part)) old.remove();
  }
  localTimes(root);
}

/** A part in which the reader types, or opened something, stays as it is. */
function isInUse(part) {
  const isTyped = [...part.querySelectorAll("input:not([type=hidden])")].some((input) => input.value !== input.defaultValue);
  return isTyped || part.contains(document.activeElement) || Boolean(part.querySelector("details[open]"));
}

// An action of this page is on its way: what the socket says of it must not overtake the page that answers.
let isLeaving = false;
document.addEventListener("submit", () => (isLeaving = true));
addEventListener("pageshow", () => (isLeaving = false));

function reloadAfter(state) {
  const text = JSON.stringify(state);
  if (shown && text !== shown && !timer) timer = setTimeout(reloadParts, RELOAD_EVERY);
  shown = text;
}

const stateOf = ({ lacks, held, health, is_enabled, is_backfilling }) => [lacks, held, health.text, is_enabled, is_backfilling];

function showList({ accounts, totals }) {
  if (!list || !showAccounts(accounts)) return location.reload();
  reloadAfter([totals.all.notional_usd, ...accounts.map(stateOf)]);
}

function showPage({ accounts }) {
  const account = accounts.find(({ id }) => String(id) === page.dataset.id);
  if (!account) return location.assign(page.dataset.accountsUrl); // removed elsewhere
  showAccount(page.querySelector("[data-account]"), account);
  reloadAfter([account.fresh_at, account.related, stateOf(account)]);
}

onSummary((summary) => {
  if (isLeaving) return;
  if (page) showPage(summary);
  else if (list || summary.accounts.length) showList(summary);
});
