// The bars: volume by venue, stacked, with periods that are not complete set apart by a hatched ground.

import { day, number, sum, usd, usdShort } from "./format.js";

const { Chart } = window;
const COLOURS = {
  hyperliquid: "#ffd230",
  woox: "#5aa9e6",
  paradex: "#b48ef0",
  bybit: "#f2f2e6",
  dydx: "#7f8cff",
  lighter: "#6fcf97",
  ostium: "#4dd0c8",
};
const OTHERS = ["#d8a0c8", "#a8b86a", "#9fb3c8", "#c9a27a"];
const INK = "#b8aa7d";
const GRID = "#241f10";
const AMBER = "#ff9d4d";
const LONGEST_LINE = 52;
const MOST_REASONS = 3; // the accounts beside the chart have them all

export const colourOf = (venue, place) => COLOURS[venue] ?? OTHERS[place % OTHERS.length];

/** Draws behind the bars of every period that is not complete. */
const ground = (seriesOf) => ({
  id: "ground",
  beforeDatasetsDraw({ ctx, chartArea: area, scales }) {
    const series = seriesOf();
    const step = scales.x.width / Math.max(1, series.days.length);
    const hatch = ctx.createPattern(tile(), "repeat");
    ctx.save();
    ctx.fillStyle = hatch;
    series.complete.forEach((complete, place) => {
      if (!complete) ctx.fillRect(area.left + place * step, area.top, step, area.height);
    });
    ctx.restore();
  },
});

let hatchTile = null;

function tile() {
  if (hatchTile) return hatchTile;
  hatchTile = document.createElement("canvas");
  hatchTile.width = hatchTile.height = 8;
  const pen = hatchTile.getContext("2d");
  pen.strokeStyle = AMBER;
  pen.globalAlpha = 0.42;
  pen.lineWidth = 1.2;
  for (const shift of [-8, 0, 8]) {
    pen.moveTo(shift, 8);
    pen.lineTo(shift + 8, 0);
  }
  pen.stroke();
  return hatchTile;
}

function lines(sentence) {
  const found = [""];
  for (const word of sentence.split(" ")) {
    if (found.at(-1).length + word.length > LONGEST_LINE) found.push("");
    found[found.length - 1] += `${found.at(-1) ? " " : ""}${word}`;
  }
  return found;
}

function titleOf(series, place) {
  const first = day(series.days[place]);
  const isLast = place === series.days.length - 1;
  if (series.granularity === "week") return `Week from ${first}${isLast ? ", so far" : ""}`;
  return `${first} (UTC)${isLast ? ", so far" : ""}`;
}

export class VolumeChart {
  constructor(canvas, series) {
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    Chart.defaults.color = INK;
    this.series = series;
    this.chart = new Chart(canvas, {
      type: "bar",
      data: { labels: [], datasets: [] },
      plugins: [ground(() => this.series)],
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        normalized: true,
        interaction: { mode: "index", intersect: false },
        scales: {
          x: {
            stacked: true,
            grid: { display: false },
            border: { color: GRID },
            ticks: { maxRotation: 0, autoSkipPadding: 18, callback: (place) => this.labelOf(place) },
          },
          y: {
            stacked: true,
            beginAtZero: true,
            grid: { color: GRID },
            border: { display: false },
            ticks: { maxTicksLimit: 6, callback: usdShort },
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            backgroundColor: "#14110a",
            borderColor: "#5d4f1c",
            borderWidth: 1,
            titleColor: "#ffd230",
            bodyColor: "#f0e6c8",
            footerColor: AMBER,
            footerFont: { weight: "normal" },
            padding: 10,
            boxPadding: 4,
            callbacks: {
              title: ([item]) => titleOf(this.series, item.dataIndex),
              label: (item) => {
                const venue = this.series.venues[item.datasetIndex];
                return ` ${venue.name}  ${usd(venue.notional_usd[item.dataIndex])}`;
              },
              afterBody: ([item]) => this.totalOf(item.dataIndex),
              footer: ([item]) => this.whyOf(item.dataIndex),
            },
          },
        },
      },
    });
    this.show(series);
  }

  show(series) {
    this.series = series;
    this.chart.data.labels = series.days;
    this.chart.data.datasets = series.venues.map(({ venue, name, notional_usd: amounts }, place) => ({
      label: name,
      data: amounts.map(number),
      backgroundColor: colourOf(venue, place),
      hoverBackgroundColor: colourOf(venue, place),
      categoryPercentage: 0.86,
      barPercentage: 1,
      maxBarThickness: 64,
    }));
    this.isEmpty = series.venues.every(({ notional_usd: amounts }) => amounts.every((amount) => amount === "0"));
    this.chart.options.scales.y.display = !this.isEmpty; // dollars of nothing would be cents
    this.chart.update("none");
  }

  labelOf(place) {
    const { days } = this.series;
    const isFirstOfYear = place === 0 || days[place].slice(0, 4) !== days[place - 1].slice(0, 4);
    return day(days[place], { withYear: days.length > 1 && this.series.granularity === "week" ? true : isFirstOfYear && place > 0 });
  }

  totalOf(place) {
    const { venues } = this.series;
    return venues.length > 1 ? [`Together  ${usd(sum(venues.map((venue) => venue.notional_usd[place])))}`] : [];
  }

  whyOf(place) {
    const { complete, why } = this.series;
    if (complete[place]) return [];
    const sentences = why[place].length ? why[place] : ["Some fills have no price in dollars."];
    const shown = sentences.slice(0, MOST_REASONS);
    if (sentences.length > shown.length) shown.push(`And ${sentences.length - shown.length} more.`);
    return ["Not complete", ...shown.flatMap(lines)];
  }
}
