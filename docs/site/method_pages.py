"""A page for each method: what its author wrote of the idea, and what the code, the papers and the records say."""

import ast
import csv
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from typing import Any

from benchmark.commands.listing import NO_PAPER
from benchmark.request import registry
from benchmark.request.published import READ, Figure, figures
from benchmark.request.registry import MethodFacts
from facts_pages import settings_table
from figures import draw_flow, read_flow
from tables import cell, code, common, table

METRICS = (
    "image_AUROC",
    "image_AP",
    "image_F1Max",
    "pixel_AUROC",
    "pixel_AP",
    "pixel_F1Max",
    "pixel_AUPRO",
)
MAIN_SETS = ("mvtec_ad", "visa")
KEYS = ("dataset", "protocol", "shots", "backbone", "image_size")  # of a line of published figures
NOTHING, NARROW = "–", "\u202f"  # where nothing is known; a space that breaks no line
DEFAULTS = (
    "Defaults are the paper's, or those of its released code where the paper is silent or was not at hand; the meaning "
    "says where both differ. `bench show method {name}` prints the same in a terminal, and `method.{name}.KEY=VALUE` "
    "is a word of `bench run`."
)


def names() -> tuple[str, ...]:
    """Methods of this repository; those of other packages have pages elsewhere."""
    own = (name for name in registry.names("method") if not registry.why_broken("method", name))
    return tuple(name for name in own if registry.method(name).path.is_relative_to(registry.ROOT))


def unwritten(name: str) -> str:
    """The page of a method that has none: its summary; `complete` adds what the file says of itself."""
    return f"# {name}\n\n{registry.method(name).summary}\n"


def table_of_methods() -> str:
    """Every method in a line."""
    rows = [
        (f"[{facts.name}]({facts.name}.md)", ", ".join(facts.protocols), facts.fits_on, cell(facts.summary))
        for facts in map(registry.method, names())
    ]
    return table(("method", "protocols", "fitted on", "in a line"), rows)


def complete(facts: MethodFacts, prose: str, meta: Mapping[str, Any]) -> str:
    """The page of a method.

    Args:
        facts: what the registry knows of it.
        prose: a heading and the idea, then further sections, if any.
        meta: of the page; `flow` describes its figure.
    """
    title, _, rest = prose.strip().partition("\n")
    idea, mark, others = rest.partition("\n## ")
    figure = draw_flow(read_flow(meta["flow"]), facts.name) if "flow" in meta else ""
    sections = [title, _facts(facts), idea.strip(), figure, mark.strip("\n") + others]
    sections += ["## Settings", DEFAULTS.format(name=facts.name), settings_table(facts.settings, "")]
    sections += ["## Published", _published(facts), "## Measured here", _measured(facts.name)]
    sections += ["## What its file says", f"```text\n{docstring(facts)}\n```"]
    return "\n\n".join(filter(None, sections)) + "\n"


def _facts(facts: MethodFacts) -> str:
    paper = f"[{facts.paper.removeprefix('https://')}]({facts.paper})" if facts.paper else NO_PAPER
    said = {
        "key": code(facts.name),
        "paper": paper,
        "protocols": ", ".join(f"[{name}](../protocols.md#{name})" for name in facts.protocols),
        "fitted on": facts.fits_on
        + (f", {facts.max_epochs} epoch{'s' * (facts.max_epochs > 1)}" * (facts.max_epochs > 0)),
        "needs": ", ".join(facts.needs) or "nothing of the CLIP but the size of its images",
        "file": code(facts.path.relative_to(registry.ROOT).as_posix()),
    }
    return "\n".join(f"- **{name}**: {value}" for name, value in said.items())


def docstring(facts: MethodFacts) -> str:
    """What the class of a method says, from its syntax tree."""
    tree = ast.parse(facts.path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            said = {ast.unparse(t) for item in node.body if isinstance(item, ast.Assign) for t in item.targets}
            if {"paper", "protocols"} <= said:
                return cleandoc(ast.get_docstring(node) or facts.summary)
    return facts.summary


def _published(facts: MethodFacts) -> str:
    found = [figure for figure in figures() if figure.method in facts.published]
    if not found:
        return "Nobody has published figures of it that the suite knows of."
    main = [figure for figure in found if figure.dataset in MAIN_SETS]
    others = [figure for figure in found if figure.dataset not in MAIN_SETS]
    parts = [
        f"What papers and repositories claim, in percent; nothing of it was measured here. A star marks what others "
        f"quote. `bench published --method {facts.name}` adds the notes, among them where sources contradict each "
        "other.",
        _figures(main),
    ]
    if others:
        sets = len({figure.dataset for figure in others})
        body = "\n".join(f"    {line}".rstrip() for line in _figures(others).splitlines())
        parts.append(f'??? note "{sets} other data sets"\n\n{body}')
    return "\n\n".join(filter(None, parts))


def _figures(found: Sequence[Figure]) -> str:
    """A line for each way of measuring, a column for each metric that any of them has; sources are numbered below."""
    if not found:
        return ""
    shown = [metric for metric in METRICS if any(figure.metric == metric for figure in found)]
    sources = list(dict.fromkeys(figure.source for figure in found))
    lines: dict[tuple[str, ...], list[Figure]] = {}
    for figure in found:
        key = tuple("?" if getattr(figure, k) in (None, "") else str(getattr(figure, k)) for k in KEYS)
        lines.setdefault(key, []).append(figure)
    rows = []
    for key, its in sorted(lines.items()):
        values = [", ".join(dict.fromkeys(_claim(f) for f in its if f.metric == metric)) or NOTHING for metric in shown]
        told = sorted({sources.index(figure.source) + 1 for figure in its})
        rows.append([*map(cell, key), *values, ", ".join(map(str, told))])
    head = ["data set", "protocol", "shots", "CLIP", "px", *(metric.replace("_", " ") for metric in shown), "source"]
    numbered = "\n".join(f"{number}. {cell(source)}" for number, source in enumerate(sources, start=1))
    return f"{common(head, rows, len(KEYS))}\n\n{numbered}"


def _claim(figure: Figure) -> str:
    deviation = f" ± {figure.std:.1f}" if figure.std is not None else ""
    return f"{figure.value:.1f}{deviation}".replace(" ", NARROW) + "\\*" * (figure.certainty != READ)


def measured_rows(name: str) -> list[dict[str, str]]:
    """Rows of the committed leaderboards, all categories, of a method with whatever settings."""
    found = []
    for path in sorted((registry.ROOT / "results").glob("*/leaderboard.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            found += [
                {**row, "folder": path.parent.name}
                for row in csv.DictReader(file)
                if row["kind"] == "all" and row["method"].partition("(")[0] == name
            ]
    return found


def _measured(name: str) -> str:
    rows = measured_rows(name)
    if not rows:
        return "No committed leaderboard holds a row of it."
    shown = [metric for metric in METRICS if any(row[metric] for row in rows)]
    notes = dict.fromkeys(f"**{row['backbone']}** rows: {row['note']}." for row in rows if row["note"])
    head = ["data set", "protocol", "shots", "method", "CLIP", "seeds"]
    keys = ("dataset", "protocol", "shots", "method", "backbone", "n_seeds")
    lines = [
        [
            *(cell(row[key]) for key in keys),
            *(_mean(row, metric) for metric in shown),
            row["comparison"],
            f"[{row['folder']}](../measured/{row['folder']}.md)",
        ]
        for row in rows
    ]
    names = [metric.replace("_", " ") for metric in shown]
    told = common([*head, *names, "comparison", "table"], lines, len(head))
    return "\n\n".join((*notes, told, "Percent; ± is the deviation over seeds. Rows of one comparison compare."))


def _mean(row: Mapping[str, str], metric: str) -> str:
    if not row[metric]:
        return NOTHING
    deviation = row[f"{metric}_std"]
    spread = f" ± {100 * float(deviation):.1f}" if deviation else ""
    return f"{100 * float(row[metric]):.1f}{spread}".replace(" ", NARROW)
