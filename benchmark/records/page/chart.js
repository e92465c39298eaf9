// One chart: series of points in percent over a scale, with a legend that is also the table of its numbers.
const BOX = { width: 440, height: 290, left: 48, right: 14, top: 28, bottom: 42 };
const COLOURS = 8; // series beyond are grey until they are chosen
const SHAPES = [
  (x, y) => draw("circle", { cx: x, cy: y, r: 4.5 }),
  (x, y) => draw("rect", { x: x - 4, y: y - 4, width: 8, height: 8 }),
  (x, y) => draw("path", { d: `M${x} ${y - 5.5}l5 9.5h-10z` }),
  (x, y) => draw("path", { d: `M${x} ${y - 6}l6 6l-6 6l-6 -6z` }),
];

// A method looks alike in every chart: of two with one colour the shapes differ.
const METHODS = [...new Set(DATA.rows.map((row) => row.method))].sort();
function lookOf(name) {
  const at = METHODS.indexOf(name);
  return [at % COLOURS, SHAPES[(at + Math.floor(at / COLOURS)) % SHAPES.length]];
}

function steps(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at++) found.push(at * step);
  return found;
}

function decades(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    for (const each of [1, 2, 5])
      if (each * 10 ** power >= low && each * 10 ** power <= high) found.push(each * 10 ** power);
  if (found.length < 2) return steps(low, high, 3);
  return found.length > 5 ? found.filter((each) => Math.abs(Math.log10(each) % 1) < 1e-9) : found;
}

function scale(low, high, from, to, log) {
  const turn = log ? Math.log : (value) => value;
  const span = turn(high) - turn(low) || 1;
  return (value) => from + ((turn(value) - turn(low)) / span) * (to - from);
}

function axes(plot) {
  const parts = [];
  for (const at of plot.yTicks) {
    parts.push(
      draw("line", { class: "rule", x1: BOX.left, x2: BOX.width - BOX.right, y1: plot.y(at), y2: plot.y(at) }),
    );
    parts.push(
      draw("text", { class: "tick", x: BOX.left - 7, y: plot.y(at) + 4, "text-anchor": "end" }, plot.yWord(at)),
    );
  }
  for (const at of plot.xTicks) {
    parts.push(
      draw(
        "text",
        { class: "tick", x: plot.x(at), y: BOX.height - BOX.bottom + 17, "text-anchor": "middle" },
        plot.xWord(at),
      ),
    );
  }
  parts.push(
    draw(
      "text",
      { class: "axis", x: (BOX.left + BOX.width - BOX.right) / 2, y: BOX.height - 5, "text-anchor": "middle" },
      plot.xName,
    ),
  );
  return parts;
}

function layout(series, x) {
  const points = series.flatMap((its) => its.points);
  const xs = points.map((its) => its.x);
  let [low, high] = [Math.min(...xs), Math.max(...xs)];
  const log = x.log && low > 0;
  if (log) [low, high] = [low / 1.25, high * 1.25];
  const ends = points.flatMap((its) => [100 * (its.y - (its.std ?? 0)), 100 * (its.y + (its.std ?? 0))]);
  const pad = Math.max(0.5, (Math.max(...ends) - Math.min(...ends)) * 0.08);
  const [bottom, top] = [Math.max(0, Math.min(...ends) - pad), Math.min(100, Math.max(...ends) + pad)];
  const yTicks = steps(bottom, top, 5);
  const digits = yTicks.length > 1 && yTicks[1] - yTicks[0] < 1 ? 1 : 0;
  return {
    x: scale(low, high, BOX.left + 12, BOX.width - BOX.right - 12, log),
    y: scale(bottom, top, BOX.height - BOX.bottom, BOX.top, false),
    xTicks: x.ticks ?? (log ? decades(low, high) : steps(low, high, 4)),
    yTicks,
    xWord: x.word,
    yWord: (at) => at.toFixed(digits),
    xName: x.name,
  };
}

function seriesOf(its, at, plot, withLine) {
  const [colour, shape] = lookOf(its.name);
  const place = (point) => [plot.x(point.x), plot.y(100 * point.y)];
  const path = its.points.map((point) => place(point).join(" ")).join("L");
  const marks = its.points.map((point) => {
    const [x, y] = place(point);
    const mark = shape(x, y);
    mark.append(draw("title", {}, `${its.name}: ${point.said}`));
    if (point.unfit) mark.classList.add("unfit");
    const reach = point.std ? [plot.y(100 * (point.y - point.std)), plot.y(100 * (point.y + point.std))] : null;
    return [reach ? draw("line", { class: "reach", x1: x, x2: x, y1: reach[0], y2: reach[1] }) : null, mark];
  });
  const drawn = withLine && its.points.length > 1 ? draw("path", { class: "curve", d: `M${path}` }) : null;
  return draw("g", { class: `series ${at < COLOURS ? `s${colour}` : "rest"}`, "data-series": at }, [drawn, marks]);
}

// Names beside points, those of the first series first; a name that would lie on another one or a point is left out.
function namesBeside(series, plot) {
  const taken = series.flatMap((its) =>
    its.points.map((point) => [plot.x(point.x) - 6, plot.y(100 * point.y) - 6, 12, 12]),
  );
  const free = (box) =>
    box[0] >= BOX.left &&
    box[0] + box[2] <= BOX.width &&
    box[1] >= 0 &&
    !taken.some(
      (its) =>
        box[0] < its[0] + its[2] && its[0] < box[0] + box[2] && box[1] < its[1] + its[3] && its[1] < box[1] + box[3],
    );
  return series.slice(0, COLOURS).map((its) => {
    const [x, y, width] = [plot.x(its.points[0].x), plot.y(100 * its.points[0].y), 6.6 * its.name.length];
    const spots = [
      [x + 9, y - 8],
      [x - 13 - width, y - 8],
      [x - width / 2, y - 24],
      [x - width / 2, y + 9],
    ];
    const spot = spots.find(([left, top]) => free([left, top, width, 15]));
    if (!spot) return null;
    taken.push([...spot, width, 15]);
    return draw("text", { class: "name", x: spot[0], y: spot[1] + 12 }, its.name);
  });
}

function legend(series, chart) {
  const items = series.map((its, at) => {
    const press = () => {
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      chart.querySelector(`[data-series="${at}"]`).classList.toggle("on", on);
      chart.classList.toggle("choosing", chart.querySelector(".on") !== null);
    };
    const [colour, shape] = lookOf(its.name);
    const swatch = draw(
      "svg",
      { class: `swatch series ${at < COLOURS ? `s${colour}` : "rest"}`, viewBox: "0 0 14 14", "aria-hidden": "true" },
      shape(7, 7),
    );
    const button = make("button", { type: "button", "aria-pressed": "false", onclick: press }, [
      swatch,
      make("span", {}, its.name),
      make("small", {}, its.said),
    ]);
    return make("li", {}, button);
  });
  return make("ul", { class: "series-list" }, items);
}

function chartOf(title, label, series, x, { yName, withLine, withNames, frontier }) {
  const plot = layout(series, x);
  const edge =
    frontier?.length > 1
      ? draw("path", {
          class: "frontier",
          d: `M${frontier.map((its) => `${plot.x(its.x)} ${plot.y(100 * its.y)}`).join("L")}`,
        })
      : null;
  const chart = draw(
    "svg",
    { viewBox: `0 0 ${BOX.width} ${BOX.height}`, role: "img", "aria-label": label, class: "chart" },
    [
      draw("text", { class: "axis", x: 2, y: 14 }, `${yName}, percent`),
      axes(plot),
      edge,
      series.map((its, at) => seriesOf(its, at, plot, withLine)).reverse(),
      withNames ? namesBeside(series, plot) : null,
    ],
  );
  return make("figure", { class: "card" }, [make("figcaption", {}, title), chart, legend(series, chart)]);
}
