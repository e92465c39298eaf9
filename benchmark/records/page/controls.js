// Filters and tabs; both lead to `show`.
const VIEWS = {
  table: ["Table", showTable],
  curves: ["Learning curves", showCurves],
  costs: ["Accuracy and cost", showCosts],
  gallery: ["Pictures", showGallery],
};
const LABELS = { backbone: "backbone", dataset: "data set", kind: "categories", protocol: "protocol", shots: "shots" };

function show() {
  const [, work] = VIEWS[state.view];
  const rows = chosenGroups().reduce((total, its) => total + its.rows.length, 0);
  by("count").textContent = `${rows.toLocaleString("en")} of ${plural(DATA.rows.length, "row")}`;
  by("view").setAttribute("aria-labelledby", `tab-${state.view}`);
  work(by("view"));
}

function select(id, label, options, pick) {
  const chooser = make(
    "select",
    { id, onchange: (event) => (pick(event.target.value), show()) },
    options.map(([value, text]) => make("option", { value }, text)),
  );
  return make("label", {}, [make("span", {}, label), chooser]);
}

function filters() {
  const chosen = KEYS.map((key) => {
    const values = [...new Set(DATA.groups.map((group) => String(group[key])))].sort((a, b) =>
      a.localeCompare(b, "en", { numeric: true }),
    );
    if (values.length < 2) return null;
    return select(
      `filter-${key}`,
      LABELS[key],
      [["", "all"], ...values.map((value) => [value, key === "kind" && value === "all" ? "whole sets" : value])],
      (value) => (state[key] = value),
    );
  });
  const metric = select(
    "filter-metric",
    "metric of plots",
    DATA.metrics.map((name, at) => [at, spaced(name)]),
    (value) => {
      state.metric = Number(value);
      state.sort = { key: "metric", at: state.metric, down: true };
    },
  );
  const type = (event) => ((state.method = event.target.value), show());
  const search = make("label", {}, [
    make("span", {}, "method"),
    make("input", {
      id: "filter-method",
      type: "search",
      oninput: type,
      placeholder: "any",
      autocomplete: "off",
      spellcheck: "false",
    }),
  ]);
  return [search, ...chosen, metric, make("output", { id: "count", "aria-live": "polite" })];
}

function open(name) {
  state.view = name;
  for (const tab of by("tabs").children) {
    const own = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", own);
    tab.tabIndex = own ? 0 : -1;
  }
  show();
}

// Arrow keys, Home and End move between tabs.
function move(event) {
  const names = Object.keys(VIEWS);
  const at = names.indexOf(state.view);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + names.length, Home: 0, End: names.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  open(names[to % names.length]);
  by(`tab-${state.view}`).focus();
}

function begin() {
  state.cost = "image";
  by("title").textContent = DATA.title;
  by("summary").textContent =
    `${plural(DATA.rows.length, "row")} from ${plural(DATA.records.length, "record")}. Percent, mean ± standard deviation over seeds. Rows compare only within a group.`;
  by("filters").append(...filters().filter((part) => part));
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("tabs").append(
    ...Object.entries(VIEWS).map(([name, [text]]) =>
      make(
        "button",
        { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "view", onclick: () => open(name) },
        text,
      ),
    ),
  );
  by("tabs").addEventListener("keydown", move);
  by("view").addEventListener("click", openRow);
  by("panel").addEventListener("click", (event) => event.target === by("panel") && by("panel").close());
  open("table");
}

begin();
