// One row in full: what was asked for, what was published, its categories, and the records behind its numbers.
function fields(values) {
  const keys = DATA.record;
  return Object.fromEntries(values.map((value, at) => [keys[at], value]));
}

function grid(caption, head, lines, chosen) {
  const mark = (at, kind) => [kind, at === chosen ? "chosen" : ""].filter(Boolean).join(" ") || undefined;
  const numeric = head.map((_, at) => lines.some((cells) => cells[at]?.number));
  const top = head.map((name, at) => make("th", { scope: "col", class: mark(at, numeric[at] ? "number" : "") }, name));
  const body = lines.map((cells) =>
    make(
      "tr",
      {},
      cells.map((cell, at) =>
        make(
          at ? "td" : "th",
          { scope: at ? undefined : "row", class: mark(at, cell?.number ? "number" : "") },
          cell?.number ?? cell,
        ),
      ),
    ),
  );
  return make(
    "div",
    { class: "scroll", role: "region", tabindex: 0, "aria-label": caption },
    make("table", {}, [make("thead", {}, make("tr", {}, top)), make("tbody", {}, body)]),
  );
}

const figure = (text) => ({ number: text });

function meant(value, std) {
  return figure(std === null ? percent(value) : `${percent(value)} ± ${percent(std)}`);
}

function factsOf(row, group, setup) {
  const changed = Object.entries(setup.changed).map(([of, words]) => `${of}: ${words}`);
  const facts = [
    ["settings changed", changed.join("; ") || "none: all defaults"],
    ["auxiliary set", setup.auxiliary],
    ["variant", setup.variant],
    ["limit", setup.limit],
    ...DATA.facts.map((name, at) => [name, word(row.facts[at])]),
    ["test per image", seconds(row.cost.image)],
    ["whole cell", seconds(row.cost.cell)],
    ["status", row.status],
    ["comparison", group.comparison],
    ["setup, code, weights", [setup.setup, setup.code, setup.weights].filter(Boolean).join(", ")],
  ];
  return make(
    "dl",
    {},
    facts
      .filter(([, value]) => value !== "" && value !== null)
      .map(([name, value]) => make("div", {}, [make("dt", {}, name), make("dd", {}, String(value))])),
  );
}

function publishedPart(row) {
  if (!row.published.length) return [];
  const lines = row.published.map((its) => [
    spaced(its.metric),
    figure(
      [percent(its.published_low), percent(its.published_high)]
        .filter((end, at, all) => at === 0 || end !== all[0])
        .join(" to "),
    ),
    figure(percent(row.values[DATA.metrics.indexOf(its.metric)])),
    figure((its.difference > 0 ? "+" : "") + percent(its.difference)),
    its.verdict,
    its.sources,
  ]);
  const head = ["metric", "published", "measured", "difference", "verdict", "sources"];
  return [
    make("h3", {}, "Published, not measured here"),
    make("div", { class: "claims" }, grid("published figures", head, lines, 1)),
  ];
}

function categoriesPart(row, group, setup, metric) {
  const tested = new Set(row.cells.map((cell) => fields(DATA.records[cell]).part));
  const own = setup.categories.filter(([name]) => group.kind === "all" || tested.has("all") || tested.has(name));
  const lines = own.map(([name, values, std]) => [name, ...values.map((value, at) => meant(value, std[at]))]);
  const head = ["category", ...DATA.metrics.map(spaced)];
  return lines.length ? [make("h3", {}, "By category"), grid("means by category", head, lines, metric + 1)] : [];
}

function recordsPart(row, metric) {
  const records = row.cells.map((cell) => fields(DATA.records[cell]));
  const link = (its) => make("a", { href: `cells/${encodeURIComponent(its.id)}/attempt-${its.attempt}.json` }, its.id);
  const lines = records.map((its) => [
    its.part,
    figure(String(its.seed)),
    figure(percent(its.values[metric])),
    figure(String(its.tested)),
    figure(seconds(its.seconds[1])),
    figure(seconds(its.seconds[2])),
    figure(its.memory === null ? DASH : `${Math.round(its.memory)} MiB`),
    link(its),
    its.status === "ok" ? its.started.replace("T", " ") : `${its.status}: ${its.said}`,
  ]);
  const head = [
    "category",
    "seed",
    spaced(DATA.metrics[metric]),
    "images",
    "fit",
    "test",
    "memory",
    "record",
    "started, UTC",
  ];
  const said = [...new Set(records.filter((its) => its.status === "ok" && its.said).map((its) => its.said))];
  const machines = [...new Set(records.map((its) => DATA.machines[its.machine]))];
  return [
    make("h3", {}, `The ${plural(records.length, "record")} behind ${spaced(DATA.metrics[metric])}`),
    grid("records", head, lines, 2),
    said.map((text) => make("p", { class: "quiet" }, text)),
    machines.map((text) => make("p", { class: "quiet" }, `Ran on ${text}.`)),
  ];
}

function openPanel(row, metric) {
  const panel = by("panel");
  const [group, setup] = [DATA.groups[row.group], DATA.setups[row.setup]];
  panel.replaceChildren(
    make("div", { class: "bar" }, [
      make("h2", { id: "panel-title" }, row.method),
      make("button", { type: "button", class: "close", onclick: () => panel.close() }, "Close"),
    ]),
    make("p", { class: "quiet" }, `${named(group)}, ${group.backbone}`),
    group.note ? make("p", { class: "note" }, group.note) : "",
    factsOf(row, group, setup),
    ...publishedPart(row),
    ...recordsPart(row, metric).flat(),
    ...categoriesPart(row, group, setup, metric),
  );
  panel.showModal();
  panel.scrollTop = 0;
}
