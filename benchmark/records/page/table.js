// The leaderboard: a table for each group of rows that compare.
function sortValue(row, sort) {
  if (sort.key === "metric") return row.values[sort.at];
  if (sort.key === "fact") return row.facts[sort.at];
  if (sort.key === "published") return claim(row)?.published_high ?? null;
  return row[sort.key];
}

// What is missing stands last in either direction; equal rows keep the order of the leaderboard.
function sorted(rows, sort) {
  const sign = sort.down ? -1 : 1;
  return [...rows].sort((one, other) => {
    const [a, b] = [sortValue(one, sort), sortValue(other, sort)];
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  });
}

const claim = (row) => row.published.find((its) => its.metric === DATA.metrics[state.metric]);

function bestOf(rows) {
  return DATA.metrics.map((_, at) => {
    const values = rows.filter((row) => row.status === "ok").map((row) => row.values[at]);
    return Math.max(...values.filter((value) => value !== null));
  });
}

function heading(text, key, at, kind) {
  const own = state.sort.key === key && state.sort.at === at;
  const press = () => {
    state.sort = { key, at, down: own ? !state.sort.down : kind !== "" };
    showTable(by("view"));
    by("view").querySelector(`[data-sort="${key}-${at}"]`)?.focus();
  };
  const order = own ? (state.sort.down ? "descending" : "ascending") : undefined;
  const button = make("button", { type: "button", onclick: press, "data-sort": `${key}-${at}` }, text);
  return make("th", { scope: "col", "aria-sort": order, class: kind || undefined }, button);
}

function number(row, at, best, wide) {
  const value = row.values[at];
  const top = value !== null && value === best[at] && row.status === "ok";
  const std = row.std[at] === null ? "" : `± ${percent(row.std[at])}`;
  const shown = [
    make("span", { class: top ? "best" : undefined }, percent(value)),
    row.marks[at] ? make("span", { class: "mark" }, row.marks[at]) : null,
  ];
  if (wide) shown.push(" ", make("small", {}, std));
  const attributes = { class: value === null ? "number none" : "number", "data-metric": at };
  return make("td", attributes, shown);
}

function publishedCell(row) {
  const its = claim(row);
  if (!its) return make("td", { class: "published none" }, DASH);
  const [low, high] = [percent(its.published_low), percent(its.published_high)];
  const verdict = its.verdict.split(":")[0];
  return make("td", { class: "published", title: its.verdict }, [
    make("cite", {}, low === high ? low : `${low} to ${high}`),
    make("small", {}, verdict),
  ]);
}

function line(row, best, wide, withPublished) {
  const open = make("button", { type: "button", class: "open", "aria-haspopup": "dialog" }, row.method);
  const flag = row.status === "ok" ? "ok" : "flag";
  return make("tr", { "data-row": row.at }, [
    make("th", { scope: "row" }, open),
    row.values.map((_, at) => number(row, at, best, wide)),
    withPublished ? publishedCell(row) : null,
    row.facts.map((fact) => make("td", { class: typeof fact === "number" ? "number" : "fact" }, word(fact))),
    make("td", {}, make("span", { class: flag, title: row.status }, row.status)),
  ]);
}

function section({ group, rows }) {
  const wide = rows.some((row) => row.std.some((std) => std !== null));
  const withPublished = rows.some((row) => row.published.length);
  const best = bestOf(DATA.rows.filter((row) => DATA.groups[row.group] === group));
  const head = make("tr", {}, [
    heading("method", "method", 0, ""),
    DATA.metrics.map((name, at) => heading(parted(name), "metric", at, "number")),
    withPublished
      ? heading(["published ", make("br"), spaced(DATA.metrics[state.metric])], "published", 0, "number claimed")
      : null,
    DATA.facts.map((name, at) => heading(name, "fact", at, typeof rows[0].facts[at] === "number" ? "number few" : "")),
    heading("status", "status", 0, ""),
  ]);
  const body = sorted(rows, state.sort).map((row) => line(row, best, wide, withPublished));
  const name = `table of ${named(group)}`;
  const table = make("table", { class: wide ? "wide" : undefined }, [make("thead", {}, head), make("tbody", {}, body)]);
  table.style.minWidth = `${130 + 92 * head.children.length}px`;
  return make("section", { class: "group", "data-group": DATA.groups.indexOf(group) }, [
    titleOf(group),
    make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": name }, table),
  ]);
}

function titleOf(group) {
  const kind = group.kind === "all" ? null : make("span", { class: "chip" }, group.kind);
  return make("div", { class: "title" }, [
    make("h2", {}, [
      group.dataset,
      " ",
      kind,
      kind ? " " : null,
      make("span", { class: "quiet" }, `${protocolOf(group)}${shotsOf(group)}`),
    ]),
    make("p", { class: "quiet" }, [
      group.backbone,
      " · ",
      group.comparison ? ["comparison ", make("code", {}, group.comparison)] : "nothing measured yet",
    ]),
  ]);
}

function showTable(view) {
  const groups = chosenGroups();
  view.replaceChildren(...notesOf(groups));
  inParts(groups, 6, (its) => view.append(section(its)));
  if (!groups.length) view.append(make("p", { class: "empty" }, "No row passes these filters."));
}

// What must be read beside the rows of a backbone, then what the marks mean.
function notesOf(groups) {
  const notes = new Map(groups.filter((its) => its.group.note).map((its) => [its.group.backbone, its.group.note]));
  const words = "Best of each group in bold. A number opens the records behind it.";
  return [
    ...[...notes].map(([backbone, note]) => make("p", { class: "note" }, [make("strong", {}, backbone), `: ${note}`])),
    make("p", { class: "legend quiet" }, `${words} ${DATA.legend}`),
  ];
}

function openRow(event) {
  const row = event.target.closest("tr[data-row]");
  if (!row || !event.target.closest("button.open, td[data-metric]")) return;
  const cell = event.target.closest("td[data-metric]");
  openPanel(DATA.rows[row.dataset.row], cell ? Number(cell.dataset.metric) : state.metric);
}
