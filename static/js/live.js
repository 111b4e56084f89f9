// The owner's summary, live: over the socket, or by asking every half minute where no socket holds.
// Every page has one of these; what wants the summary calls onSummary().

const { socket: SOCKET_PATH, summaryUrl: SUMMARY_URL, signInUrl: SIGN_IN_URL } = document.body.dataset;
const NOT_SIGNED_IN = 4401;
const PING_EVERY = 30_000;
const POLL_EVERY = 30_000;
const ASK_EVERY = 60_000; // the last 24 hours move on without fills
const LONGEST_PAUSE = 30_000;
const HIDDEN_FOR = 60_000;
const SILENT_FOR = 75_000; // two pings unanswered: the line is dead, even if nobody said so
const BEAT_EVERY = 1000;
const SLEPT_FOR = 10_000; // a beat so late: the machine slept, and what it thinks is an open line need not be one
const FAILURES_UNTIL_POLLING = 3;

const listeners = new Set();
let socket = null;
let failures = 0;
let isWanted = true; // false while the page is hidden for long
let retryTimer = 0;
let pollTimer = 0;
let hiddenTimer = 0;
let heardAt = 0;
let isAnswered = true; // by HTTP, where no socket holds
let newest = null;
let serverAhead = 0; // how far the server's clock is ahead of this one, in milliseconds

export let status = "connecting";

/** Calls back with every summary from now on, and with the newest one at once if there is one. */
export function onSummary(callback) {
  listeners.add(callback);
  if (newest) callback(newest);
}

/** The server's time, as well as this page knows it. */
export const now = () => Date.now() + serverAhead;

/** Takes a summary the page came with. */
export function begin(summary) {
  if (!newest) receive(summary);
}

/** Asks for the summary over HTTP. */
export async function ask() {
  const answer = await fetch(SUMMARY_URL, { headers: { Accept: "application/json" } });
  if (answer.status === 401 || answer.status === 403) return goToSignIn();
  if (answer.status === 503) sayTrouble(await answer.json());
  if (!answer.ok) throw new Error(`The summary answered ${answer.status}.`);
  receive(await answer.json());
}

/** Where the next summary's own word takes its place. */
function sayTrouble({ error }) {
  const notice = document.getElementById("trouble");
  if (!notice) return;
  if (notice.textContent !== error.message) notice.textContent = error.message;
  notice.hidden = false;
}

function receive(summary) {
  if (newest && Date.parse(summary.as_of) < Date.parse(newest.as_of)) return; // an answer that was overtaken
  newest = summary;
  serverAhead = Date.parse(summary.as_of) - Date.now();
  for (const callback of listeners) callback(summary);
}

function connect() {
  clearTimeout(retryTimer);
  if (socket || !isWanted) return;
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  const own = new WebSocket(`${scheme}//${location.host}${SOCKET_PATH}`);
  socket = own;
  heardAt = Date.now();
  own.addEventListener("message", ({ data }) => {
    heardAt = Date.now();
    const message = JSON.parse(data);
    if (message.type !== "summary") return;
    failures = 0;
    clearTimeout(pollTimer);
    pollTimer = 0;
    say("live", "live");
    receive(message);
  });
  own.addEventListener("close", ({ code }) => {
    if (socket !== own) return;
    socket = null;
    if (code === NOT_SIGNED_IN) return goToSignIn();
    if (isWanted) retry();
  });
}

function retry() {
  failures += 1;
  const pause = Math.min(LONGEST_PAUSE, 1000 * 2 ** (failures - 1));
  retryTimer = setTimeout(connect, pause + Math.random() * 500);
  if (failures < FAILURES_UNTIL_POLLING) return say("reconnecting", "reconnecting…");
  sayPolling();
  if (!pollTimer) poll();
}

function poll() {
  pollTimer = setTimeout(poll, POLL_EVERY);
  ask().then(() => heard(true), () => heard(false));
}

function heard(answered) {
  isAnswered = answered;
  if (pollTimer) sayPolling();
}

const sayPolling = () => say("polling", isAnswered ? "not live: checking every 30 s" : "not connected: trying every 30 s");

function drop() {
  const own = socket;
  socket = null;
  own?.close();
}

function say(state, text) {
  status = state;
  document.getElementById("live").dataset.state = state;
  const words = document.getElementById("live-text");
  if (words.textContent !== text) words.textContent = text;
}

function goToSignIn() {
  isWanted = false;
  location.assign(`${SIGN_IN_URL}?ended=1&next=${encodeURIComponent(location.pathname + location.search)}`);
}

function watchTheLine() {
  if (!socket) return;
  if (Date.now() - heardAt > SILENT_FOR) {
    drop();
    retry();
  } else if (socket.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify({ type: "ping" }));
  }
}

/** Begins anew at once: a new line also brings the newest summary. */
function beginAnew() {
  isWanted = true;
  failures = 0;
  drop();
  say("reconnecting", "reconnecting…");
  connect();
}

let beatAt = Date.now();

function noticeSleep() {
  const late = Date.now() - beatAt - BEAT_EVERY;
  beatAt = Date.now();
  // A hidden page is not called every second, asleep or not; it is looked at when it is seen again.
  if (late > SLEPT_FOR && !document.hidden && isWanted) beginAnew();
}

function sleepWhenHidden() {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(() => {
      isWanted = false;
      clearTimeout(retryTimer);
      clearTimeout(pollTimer);
      pollTimer = 0;
      drop();
    }, HIDDEN_FOR);
    return;
  }
  const isSilent = Date.now() - heardAt > PING_EVERY + SLEPT_FOR;
  if (!isWanted || !socket || isSilent) beginAnew();
}

if (SOCKET_PATH) {
  connect();
  setInterval(watchTheLine, PING_EVERY);
  setInterval(noticeSleep, BEAT_EVERY);
  setInterval(() => {
    // An open socket says nothing of the database behind it.
    if (!document.hidden && status === "live") ask().catch(beginAnew);
  }, ASK_EVERY);
  document.addEventListener("visibilitychange", sleepWhenHidden);
  // A page kept for the back button has no socket any more.
  addEventListener("pageshow", ({ persisted }) => persisted && beginAnew());
  addEventListener("online", () => !document.hidden && beginAnew());
}
