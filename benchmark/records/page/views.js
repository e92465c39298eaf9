// Learning curves, accuracy against cost, and the pictures.
const COSTS = { image: "seconds of the test per image", cell: "seconds of a whole cell, without the loading" };

function titleLine(group, withShots) {
  const kind = group.kind === "all" ? "" : ` (${group.kind})`;
  const shots = withShots ? shotsOf(group) : "";
  return [
    make("strong", {}, `${group.dataset}${kind}`),
    ` ${protocolOf(group)}${shots}`,
    make("small", {}, group.backbone),
  ];
}

const pointOf = (row, x, said) => ({
  x,
  y: row.values[state.metric],
  std: row.std[state.metric],
  unfit: row.status !== "ok",
  said,
});
const valueOf = (row) =>
  `${percent(row.values[state.metric])}${row.std[state.metric] === null ? "" : ` ± ${percent(row.std[state.metric])}`}`;

// Rows whose numbers of shots alone differ, by method; only where there are two numbers of shots.
function curves() {
  const found = new Map();
  for (const { group, rows } of chosenGroups()) {
    for (const row of rows) {
      const setup = DATA.setups[row.setup];
      if (row.values[state.metric] === null) continue;
      const key = JSON.stringify([
        group.backbone,
        group.dataset,
        setup.variant,
        group.kind,
        group.protocol,
        setup.limit,
      ]);
      if (!found.has(key)) found.set(key, { group, methods: new Map() });
      const { methods } = found.get(key);
      if (!methods.has(row.method)) methods.set(row.method, new Map());
      if (!methods.get(row.method).has(group.shots)) methods.get(row.method).set(group.shots, row);
    }
  }
  return [...found.values()].filter(
    (its) => new Set([...its.methods.values()].flatMap((rows) => [...rows.keys()])).size > 1,
  );
}

function curveCard({ group, methods }) {
  const shots = [...new Set([...methods.values()].flatMap((rows) => [...rows.keys()]))].sort((a, b) => a - b);
  const series = [...methods].map(([name, rows]) => {
    const own = [...rows].sort(([a], [b]) => a - b);
    const points = own.map(([x, row]) => pointOf(row, x, `${x} shots, ${valueOf(row)}`));
    return { name, points, said: own.map(([x, row]) => `${x}: ${valueOf(row)}`).join(", ") };
  });
  series.sort(
    (one, other) => other.points.at(-1).x - one.points.at(-1).x || other.points.at(-1).y - one.points.at(-1).y,
  );
  const metric = spaced(DATA.metrics[state.metric]);
  const x = { name: "shots", ticks: shots, word: String, log: true };
  return chartOf(
    titleLine(group, false),
    `${metric} against shots, ${named(group)}; the list below names each value`,
    series,
    x,
    { yName: metric, withLine: true },
  );
}

function showCurves(view) {
  const found = curves();
  view.replaceChildren(
    make(
      "p",
      { class: "legend quiet" },
      "One line for each method; bars are standard deviations over seeds, open marks rows whose status is not ok. Choose a name to bring its line forward.",
    ),
  );
  if (!found.length)
    view.append(
      make(
        "p",
        { class: "empty" },
        "There is no curve: no method was measured with two numbers of shots under these filters.",
      ),
    );
  const cards = view.appendChild(make("div", { class: "cards" }));
  inParts(found, 6, (its) => cards.append(curveCard(its)));
}

// Points that no other one beats in both cost and accuracy, the cheapest first.
function frontierOf(points) {
  let best = -1;
  return [...points].sort((a, b) => a.x - b.x || b.y - a.y).filter((its) => its.y > best && ((best = its.y), true));
}

function costCard({ group, rows }) {
  const own = sorted(rows, { key: "metric", at: state.metric, down: true });
  const series = own.map((row) => ({
    name: row.method,
    points: [pointOf(row, row.cost[state.cost], `${seconds(row.cost[state.cost])}, ${valueOf(row)}`)],
    said: `${valueOf(row)}, ${seconds(row.cost[state.cost])}`,
  }));
  const metric = spaced(DATA.metrics[state.metric]);
  const x = { name: COSTS[state.cost], word: seconds, log: true };
  const frontier = frontierOf(series.map((its) => its.points[0]).filter((point) => !point.unfit));
  return chartOf(
    titleLine(group, true),
    `${metric} against ${COSTS[state.cost]}, ${named(group)}; the list below names each value`,
    series,
    x,
    { yName: metric, withNames: true, frontier },
  );
}

function showCosts(view) {
  const cost = make(
    "select",
    { onchange: (event) => ((state.cost = event.target.value), showCosts(view), by("cost").focus()), id: "cost" },
    Object.entries(COSTS).map(([value, text]) => make("option", { value, selected: value === state.cost }, text)),
  );
  const measured = (row) => row.values[state.metric] !== null && row.cost[state.cost] > 0;
  const found = chosenGroups()
    .map((its) => ({ ...its, rows: its.rows.filter(measured) }))
    .filter((its) => its.rows.length);
  const records = found.flatMap((its) => its.rows.flatMap((row) => row.cells));
  const machines = new Set(records.map((cell) => DATA.machines[fields(DATA.records[cell]).machine]));
  const many =
    machines.size > 1
      ? ` They ran on ${machines.size} machines or commits, so that seconds compare with care; a row names its own.`
      : "";
  view.replaceChildren(
    make("p", { class: "legend quiet" }, [
      "Cost: ",
      make("label", { class: "inline" }, [make("span", { class: "hidden" }, "cost"), cost]),
      ` The dotted line joins what nothing beats in both.${many}`,
    ]),
  );
  if (!found.length)
    view.append(make("p", { class: "empty" }, "No row under these filters has both this metric and a time."));
  const cards = view.appendChild(make("div", { class: "cards" }));
  inParts(found, 6, (its) => cards.append(costCard(its)));
}

function tile(uri, title, said, alt) {
  const image = uri ? make("img", { src: uri, alt, decoding: "async" }) : make("div", { class: "no-image" }, "none");
  return make("figure", { class: "tile" }, [
    image,
    make("figcaption", {}, [make("span", {}, title), make("small", {}, said)]),
  ]);
}

function pictureRow(picture, methods) {
  const label = picture.anomalous ? "anomalous" : "normal";
  const [image, truth, ...maps] = picture.uris;
  return make("li", {}, [
    make("p", {}, [make("span", { class: `chip ${label}` }, label), " ", make("code", {}, picture.name)]),
    make("div", { class: "tiles" }, [
      tile(image, "image", picture.category, `${label} test image ${picture.name}`),
      truth ? tile(truth, "truth", "outlined", `the truth of ${picture.name}, outlined`) : null,
      maps.map((uri, at) =>
        tile(
          uri,
          methods[at],
          `${picture.ranks[at][0]} of ${picture.ranks[at][1]}`,
          `map of ${methods[at]} over ${picture.name}`,
        ),
      ),
    ]),
  ]);
}

function galleryOf(its) {
  const methods = its.rows.map((row) => DATA.rows[row].method);
  const left = its.left ? ` ${plural(its.left, "more method")} not shown.` : "";
  const part = (what, title) => {
    const own = its.pictures.filter((picture) => picture.what === what);
    return own.length
      ? [
          make("h3", {}, title),
          make(
            "ul",
            { class: "pictures" },
            own.map((picture) => pictureRow(picture, methods)),
          ),
        ]
      : [];
  };
  return make("section", {}, [
    titleOf(DATA.groups[DATA.rows[its.row].group]),
    make(
      "p",
      { class: "quiet" },
      `Seed ${its.seed}.${left} Numbers are ranks among the test images of the category, 1 the most anomalous.`,
    ),
    part("miss", "Worst misses"),
    part("hit", "Best hits"),
  ]);
}

function showGallery(view) {
  const { groups, said } = DATA.gallery;
  const found = groups.filter((its) => passes(DATA.groups[DATA.rows[its.row].group]));
  const words =
    "Chosen by the mean rank over the methods. Colours run from the 1st to the 99.9th percentile of a model's maps over its test images; a brighter place is more anomalous.";
  view.replaceChildren(
    ...(groups.length ? [words, ...said] : said).map((text) => make("p", { class: "legend quiet" }, text)),
  );
  if (groups.length && !found.length)
    view.append(make("p", { class: "empty" }, "There are no pictures under these filters."));
  inParts(found, 2, (its) => view.append(galleryOf(its)));
}
