// The chart: bars or a line of one measure, with periods that are not complete drawn as what they are, never as nothing.

import { day, month, number, usd, usdShort } from "./format.js";
import { STATES } from "./states.js";
import { hideTip, showTip } from "./tip.js";

const { Chart } = window;
const root = getComputedStyle(document.documentElement);
const colour = (name) => root.getPropertyValue(`--${name}`).trim();
const [GOLD, QUIET, GRID, EDGE, AMBER, RED] = ["gold", "quiet", "line", "edge", "amber", "red"].map(colour);
const PALETTE = ["#ffd230", "#5aa9e6", "#b48ef0", "#6fcf97", "#f2f2e6", "#4dd0c8", "#d8a0c8", "#7f8cff", "#a8b86a", "#c9a27a"];
const OTHERS = "#7d7660";
const REBATE = "#6fcf97";
const MOST_REASONS = 3; // the page of the day has them all

/** The parts a period is made of, for each measure: [{name, colour, amounts}], the first at the bottom. */
const MEASURES = {
  volume: ({ stacks, by }) =>
    stacks.map(({ key, name, venue, notional_usd: amounts }, place) => ({
      name,
      amounts,
      colour: key === "" ? OTHERS : (by === "venue" && colour(`venue-${venue}`)) || PALETTE[place % PALETTE.length],
    })),
  liquidity: ({ maker_usd: maker, taker_usd: taker }) => [
    { name: "maker", colour: GOLD, amounts: maker },
    { name: "taker", colour: "#5aa9e6", amounts: taker },
  ],
  fees: ({ fees_usd: fees }) => [{ name: "fees", colour: GOLD, below: REBATE, amounts: fees }],
  cumulative: ({ cumulative_usd: amounts }) => [{ name: "added up", colour: GOLD, amounts }],
};

/** How a period that is not complete is drawn, from the top of the chart to its foot. */
const GROUNDS = {
  unread: (pen, box) => outline(pen, box, EDGE, [3, 3]),
  not_asked: (pen, box) => outline(pen, box, EDGE, [1, 4]),
  gap: (pen, box) => fill(pen, box, hatch(pen, RED)),
  out_of_reach: (pen, box) => fill(pen, box, hatch(pen, AMBER)),
  held: (pen, box) => fill(pen, box, dots(pen, RED)),
  stale: (pen, box) => outline(pen, box, AMBER, [1, 3]),
  not_priced: (pen, box) => fill(pen, box, dots(pen, AMBER)),
};

function fill(pen, { x, y, width, height }, style) {
  pen.fillStyle = style;
  pen.fillRect(x, y, width, height);
}

function outline(pen, { x, y, width, height }, style, dashes) {
  pen.strokeStyle = style;
  pen.setLineDash(dashes);
  pen.strokeRect(x + 0.5, y + 0.5, Math.max(0, width - 1), height - 1);
}

const tiles = new Map();

function tile(pen, name, draw) {
  if (!tiles.has(name)) {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 8;
    draw(canvas.getContext("2d"));
    tiles.set(name, pen.createPattern(canvas, "repeat"));
  }
  return tiles.get(name);
}

const hatch = (pen, style) =>
  tile(pen, `hatch ${style}`, (own) => {
    own.strokeStyle = style;
    own.globalAlpha = 0.4;
    own.lineWidth = 1.2;
    for (const shift of [-8, 0, 8]) {
      own.moveTo(shift, 8);
      own.lineTo(shift + 8, 0);
    }
    own.stroke();
  });

const dots = (pen, style) =>
  tile(pen, `dots ${style}`, (own) => {
    own.fillStyle = style;
    own.globalAlpha = 0.5;
    own.fillRect(1, 1, 1.5, 1.5);
    own.fillRect(5, 5, 1.5, 1.5);
  });

/** Neighbouring periods of one state: [{state, from, until}] by their places, `until` not included. */
function stretches(states) {
  const found = [];
  states.forEach((state, place) => {
    if (found.at(-1)?.state === state) found.at(-1).until = place + 1;
    else found.push({ state, from: place, until: place + 1 });
  });
  return found.filter(({ state }) => state !== "complete");
}

const ground = (seriesOf) => ({
  id: "ground",
  beforeDatasetsDraw({ ctx: pen, chartArea: area, scales }) {
    const { days, state: states } = seriesOf();
    const step = scales.x.width / Math.max(1, days.length);
    for (const { state, from, until } of stretches(states)) {
      pen.save();
      const box = { x: area.left + from * step, y: area.top, width: (until - from) * step, height: area.height };
      GROUNDS[state]?.(pen, box);
      pen.restore();
    }
  },
});

export class VolumeChart {
  /** `onOpen` is called with the place of a period that is clicked. */
  constructor(canvas, series, scope, onOpen) {
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.color = QUIET;
    this.series = series;
    this.scope = scope;
    this.chart = new Chart(canvas, {
      type: "bar",
      data: { labels: [], datasets: [] },
      plugins: [ground(() => this.series)],
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        normalized: true,
        events: [], // what is under the pointer is said without drawing thousands of bars anew
        scales: {
          x: {
            stacked: true,
            offset: true,
            grid: { display: false },
            border: { color: GRID },
            ticks: { maxRotation: 0, autoSkipPadding: 18, callback: (place) => this.labelOf(place) },
          },
          y: {
            stacked: true,
            beginAtZero: true,
            grid: { color: (line) => (line.tick.value === 0 ? EDGE : GRID) },
            border: { display: false },
            ticks: { maxTicksLimit: 6, callback: usdShort },
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: { enabled: false },
        },
      },
    });
    this.pointer = document.getElementById("pointer");
    this.follow(canvas, onOpen);
    this.show(series, scope);
  }

  /** What is under the pointer is said; a click opens it. A finger says it first, and opens it by a second tap. */
  follow(canvas, onOpen) {
    let said = -1;
    let isTold = true; // whether a click may open what it hits
    canvas.addEventListener("pointerdown", (event) => {
      const place = this.placeAt(event);
      isTold = event.pointerType === "mouse" || place === said;
      said = place;
      this.say(place);
    });
    canvas.addEventListener("pointermove", (event) => this.say((said = this.placeAt(event))));
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "mouse") return;
      said = -1;
      this.say(said);
    });
    canvas.addEventListener("click", (event) => {
      const place = this.placeAt(event);
      if (isTold && place >= 0) onOpen(place);
    });
    addEventListener("scroll", () => this.say((said = -1)), { passive: true });
  }

  /** The period under the pointer; -1 beside the bars. */
  placeAt({ offsetX: x, offsetY: y }) {
    const { chartArea: area, scales } = this.chart;
    if (x < area.left || x > area.right || y < area.top || y > area.bottom) return -1;
    return Math.min(this.series.days.length - 1, Math.floor(((x - area.left) / scales.x.width) * this.series.days.length));
  }

  show(series, scope) {
    if (series.days.join() !== this.series.days.join() || scope.measure !== this.scope.measure) this.say(-1);
    this.series = series;
    this.scope = scope;
    this.parts = MEASURES[scope.measure](series);
    const isLine = scope.measure === "cumulative";
    this.chart.data.labels = series.days;
    this.chart.data.datasets = this.parts.map((part) => (isLine ? this.line(part) : this.bars(part)));
    this.isEmpty = series.fills.every((count) => count === 0) && series.forced_usd.every((amount) => amount === "0");
    // Dollars of nothing would be cents.
    this.chart.options.scales.y.display = this.parts.some(({ amounts }) => amounts.some((amount) => amount !== "0"));
    this.chart.update("none");
  }

  bars({ name, colour: above, below, amounts }) {
    const floats = amounts.map(number);
    const colours = below ? floats.map((amount) => (amount < 0 ? below : above)) : above;
    return {
      type: "bar",
      label: name,
      data: floats,
      backgroundColor: colours,
      hoverBackgroundColor: colours,
      categoryPercentage: 0.86,
      barPercentage: 1,
      maxBarThickness: 64,
    };
  }

  line({ name, colour: own, amounts }) {
    return {
      type: "line",
      label: name,
      data: amounts.map(number),
      borderColor: own,
      backgroundColor: "rgb(255 210 48 / 12%)",
      borderWidth: 2,
      fill: true,
      pointRadius: amounts.length === 1 ? 3 : 0,
      pointHoverRadius: 4,
      pointBackgroundColor: own,
    };
  }

  /** The colours of the key: none where the title says it all. */
  get key() {
    if (this.scope.measure === "fees") {
      const hasRebates = this.series.fees_usd.some((amount) => amount.startsWith("-"));
      return hasRebates ? [{ name: "fees", colour: GOLD }, { name: "rebates", colour: REBATE }] : [];
    }
    return this.parts.length > 1 || this.scope.measure === "volume" ? this.parts : [];
  }

  labelOf(place) {
    const { days, granularity } = this.series;
    const isNewYear = place === 0 || days[place].slice(0, 4) !== days[place - 1].slice(0, 4);
    if (granularity === "month") return month(days[place]);
    return day(days[place], { withYear: isNewYear && (place > 0 || days.length > 31) });
  }

  titleOf(place) {
    const { days, granularity } = this.series;
    const name = { day: day(days[place]), week: `Week from ${day(days[place])}`, month: month(days[place]) }[granularity];
    return `${name}${place === days.length - 1 && this.scope.isUnderWay ? ", so far" : ""}`;
  }

  say(place) {
    this.chart.canvas.style.cursor = place < 0 ? "" : "pointer";
    this.pointer.hidden = place < 0;
    if (place < 0) return hideTip();
    const { series, parts } = this;
    const shown = parts.filter(({ amounts }) => parts.length === 1 || amounts[place] !== "0");
    const rows = shown.map(({ name, colour: own, below, amounts }) => ({
      name,
      colour: below && amounts[place].startsWith("-") ? below : own,
      text: usd(amounts[place]),
    }));
    const isSplit = ["volume", "liquidity"].includes(this.scope.measure);
    if (isSplit && shown.length !== 1) rows.push({ name: "together", text: usd(series.total_usd[place]), isTotal: true });
    if (this.scope.measure === "cumulative") rows.push({ name: `this ${series.granularity}`, text: usd(series.total_usd[place]) });
    if (series.forced_usd[place] !== "0") rows.push({ name: "forced", text: usd(series.forced_usd[place]) });
    rows.push({ name: "fills", text: series.fills[place].toLocaleString("en") });
    rows.push({ name: "state", text: STATES[series.state[place]] });
    const reasons = series.why[place];
    const notes = reasons.slice(0, MOST_REASONS);
    if (reasons.length > notes.length) notes.push(`And ${reasons.length - notes.length} more.`);
    const { chart } = this;
    const { chartArea: area, scales } = chart;
    const x = area.left + (scales.x.width * (place + 0.5)) / series.days.length;
    Object.assign(this.pointer.style, { left: `${x}px`, top: `${area.top}px`, height: `${area.height}px` });
    const box = chart.canvas.getBoundingClientRect();
    showTip({ x: box.left + x, y: box.top + area.top + area.height / 4 }, { title: this.titleOf(place), rows, notes });
  }
}
