// How figures and times are written. Amounts come as exact decimal text and are never made into binary floats here,
// except by number(), which is for the chart alone.

/** `text` as a whole number of 10^-places, rounded half-even. */
function scaled(text, places) {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text);
  const kept = BigInt(whole + fraction.slice(0, places).padEnd(places, "0"));
  const rest = fraction.slice(places).replace(/0+$/, "");
  const isUp = rest[0] > "5" || (rest[0] === "5" && (rest.length > 1 || kept % 2n === 1n));
  const value = isUp ? kept + 1n : kept;
  return sign ? -value : value;
}

/** $1,234,567.89 */
export function usd(text) {
  const cents = scaled(text, 2);
  const digits = String(cents < 0n ? -cents : cents).padStart(3, "0");
  return `${cents < 0n ? "−" : ""}$${grouped(digits.slice(0, -2))}.${digits.slice(-2)}`;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A number of dollars for an axis: $1.2M. */
export const usdShort = (value) => `${value < 0 ? "−" : ""}$${compact.format(Math.abs(value))}`;

/** For the chart alone: bars need no more digits than a float has. */
export const number = (text) => Number(text);

/** Dollars of fills of which some have no price: what is known of them, and a word where that is not all. */
export function dollars(text, notPriced) {
  if (!notPriced) return usd(text);
  return text === "0" ? "not priced" : `${usd(text)}\u2009+`;
}

export const count = (value) => grouped(String(value));

export const fills = (value) => `${count(value)} ${value === 1 ? "fill" : "fills"}`;

function grouped(digits) {
  return digits.replace(/\B(?=(\d{3})+$)/g, ",");
}

const months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** The UTC day of a date or an instant: 21 Nov 2026, or 21 Nov. */
export function day(iso, { withYear = true } = {}) {
  const at = new Date(iso);
  const short = `${at.getUTCDate()} ${months[at.getUTCMonth()]}`;
  return withYear ? `${short} ${at.getUTCFullYear()}` : short;
}

/** Nov 2026 */
export function month(iso) {
  const at = new Date(iso);
  return `${months[at.getUTCMonth()]} ${at.getUTCFullYear()}`;
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const moment = new Intl.DateTimeFormat(undefined, {
  day: "numeric",
  month: "short",
  hour: "numeric",
  minute: "2-digit",
  second: "2-digit",
});

/** An instant in the reader's own time zone. */
export const localClock = (iso) => clock.format(new Date(iso));
export const localMoment = (iso) => moment.format(new Date(iso));

/** 12 s, 5 min, 3 h, 2 days: the largest unit alone. */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

/** 11 h 9 min, 9 min */
export function hoursAndMinutes(milliseconds) {
  const minutes = Math.max(0, Math.ceil(milliseconds / 60000));
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min`;
}
