// The data, what is chosen, and how an element is made: text enters the page as text nodes alone.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const DASH = "–";
const KEYS = ["backbone", "dataset", "kind", "protocol", "shots"];
const state = { view: "table", metric: 0, method: "", sort: { key: "metric", at: 0, down: true } };
for (const key of KEYS) state[key] = "";
DATA.rows.forEach((row, at) => (row.at = at));

function make(name, attributes, children, space) {
  const made = space ? document.createElementNS(space, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === undefined || value === null) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  for (const child of [children ?? []].flat(Infinity)) {
    if (child !== null && child !== undefined) made.append(child);
  }
  return made;
}

const draw = (name, attributes, children) => make(name, attributes, children, SVG);
const by = (id) => document.getElementById(id);
const percent = (value) => (value === null ? DASH : (100 * value).toFixed(1));
const spaced = (name) => name.replaceAll("_", " ");
const protocolOf = (group) => {
  const [name, settings] = group.protocol.split(/(?=\()/);
  return spaced(name) + (settings ? ` ${settings}` : "");
};
const parted = (name) =>
  spaced(name)
    .split(/ (.*)/)
    .filter(Boolean)
    .flatMap((part, at) => (at ? [" ", make("br"), part] : [part]));
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function seconds(value) {
  if (value === null || value === undefined) return DASH;
  if (value >= 100) return `${Math.round(value).toLocaleString("en")} s`;
  return value >= 1 ? `${value.toFixed(1)} s` : `${Number((1000 * value).toPrecision(2))} ms`;
}

function word(value) {
  if (value === null || value === undefined) return DASH;
  return typeof value === "number" && !Number.isInteger(value) ? value.toFixed(1) : String(value);
}

function shotsOf(group) {
  return group.shots === 1 ? ", 1 shot" : group.shots ? `, ${group.shots} shots` : "";
}

function named(group) {
  const kind = group.kind === "all" ? "" : ` (${group.kind} categories)`;
  return `${group.dataset}${kind}, ${protocolOf(group)}${shotsOf(group)}`;
}

const passes = (group) => KEYS.every((key) => state[key] === "" || String(group[key]) === state[key]);
const matches = (row) => row.method.toLowerCase().includes(state.method.trim().toLowerCase());

// The rows that the filters leave, by group, in the order of the leaderboard.
function chosenGroups() {
  const found = DATA.groups.map(() => []);
  for (const row of DATA.rows) if (matches(row)) found[row.group].push(row);
  return DATA.groups
    .map((group, at) => ({ group, rows: found[at] }))
    .filter((its) => its.rows.length && passes(its.group));
}

// Does the work of a list a screenful at a time, the first one at once; a newer list ends an older one.
let turn = 0;
function inParts(items, size, work) {
  const own = ++turn;
  const part = (from) => {
    if (own !== turn) return;
    items.slice(from, from + size).forEach(work);
    if (from + size < items.length) setTimeout(part, 0, from + size);
  };
  part(0);
}
