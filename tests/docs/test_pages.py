"""What the pages say is what the code, the papers and the records say."""

import csv
import re
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

from benchmark.request import registry
from benchmark.request.published import figures
from benchmark.request.settings import GROUPS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(p for p in DOCS.rglob("*.md")),
    ROOT / "results/README.md",
]
METHODS = [name for name in registry.names("method") if registry.method(name).path.is_relative_to(ROOT)]


def rows(page: str, heading: str) -> list[list[str]]:
    """Cells of all tables of a section."""
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.strip().startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines if "| --- |" not in line]


@pytest.fixture
def page():
    """The page of a method, as MkDocs gets it."""
    import method_pages

    def read(name: str) -> str:
        file = DOCS / f"methods/{name}.md"
        text = file.read_text() if file.is_file() else method_pages.unwritten(name)
        _, head, prose = text.split("---\n", 2) if text.startswith("---") else ("", "{}", text)
        return method_pages.complete(registry.method(name), prose, yaml.safe_load(head))

    return read


@pytest.mark.parametrize("name", METHODS)
def test_settings_of_a_method_are_those_of_its_file(page, name):
    shown = {row[0].strip("`"): row[1:] for row in rows(page(name), "Settings")[1:]}
    settings = registry.method(name).settings
    assert list(shown) == list(settings)
    for key, setting in settings.items():
        default, allowed, meaning = shown[key]
        read = yaml.safe_load(default.strip("`"))
        assert (float(read) if isinstance(setting.default, float) else read) == setting.default
        assert type(setting.default) in (float, type(read))
        assert all(f"`{choice}`" in allowed for choice in setting.choices)
        assert setting.range.replace("<", "&lt;").replace(">", "&gt;") in allowed
        plain = meaning.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert re.sub(r"\\([|*])", r"\1", plain) == setting.meaning


@pytest.mark.parametrize("name", METHODS)
def test_a_method_of_the_suite_has_an_idea_and_a_figure_in_words_of_its_own(page, name):
    written = (DOCS / f"methods/{name}.md").read_text()
    assert len(written.split("---\n", 2)[2].split("\n## ")[0].split()) > 40
    assert 'class="result"' in page(name)
    if registry.method(name).paper:
        assert "## Departures from the paper" in written


@pytest.mark.parametrize("name", METHODS)
def test_every_published_figure_stands_on_the_page_with_its_source(page, name):
    facts, text = registry.method(name), page(name)
    found = [figure for figure in figures() if figure.method in facts.published]
    section = text.split("\n## Published\n")[1].split("\n## ")[0]
    for figure in found:
        assert figure.source.replace("<", "&lt;").replace("|", "\\|") in section
        star = r"\*" if figure.certainty != "read" else ""
        deviation = f" ± {figure.std:.1f}" if figure.std is not None else ""
        claim = f"{figure.value:.1f}{deviation}{star}"
        lines = [line.replace("\u202f", " ") for line in section.splitlines() if claim in line.replace("\u202f", " ")]
        assert any(figure.dataset in line or f"data set {figure.dataset}" in section for line in lines), claim
    if not found:
        assert "Nobody has published" in section


@pytest.mark.parametrize("name", METHODS)
def test_every_measured_row_stands_on_the_page_with_its_note(page, name):
    section = page(name).split("\n## Measured here\n")[1].split("\n## ")[0]
    expected = 0
    for file in sorted((ROOT / "results").glob("*/leaderboard.csv")):
        with file.open(newline="") as table:
            for row in csv.DictReader(table):
                if row["kind"] != "all" or row["method"].split("(")[0] != name:
                    continue
                expected += 1
                assert row["note"] in section
                percent = f"{100 * float(row['image_AUROC']):.1f}"
                assert any(
                    row["comparison"] in line and percent in line and file.parent.name in line
                    for line in section.splitlines()
                )
    shown = rows(page(name), "Measured here")
    assert max(len(shown) - 1, 0) == expected


def test_a_method_that_nobody_wrote_a_page_for_has_one(page, monkeypatch, tmp_path):
    import method_pages

    (tmp_path / "newcomer.py").write_text(
        '"""Newcomer: a line."""\n\n\nclass Newcomer:\n    """All that it says of itself: <f, r>."""\n\n'
        '    paper = "https://example.org"\n    protocols = ("few_shot",)\n'
    )
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    monkeypatch.setattr(
        registry, "_modules", lambda kind: {"newcomer": [registry.Claim("x", tmp_path / "newcomer.py")]}
    )
    registry._facts.cache_clear()
    assert method_pages.names() == ("newcomer",)
    text = page("newcomer")
    registry._facts.cache_clear()
    assert text.startswith("# newcomer\n\n- **key**: `newcomer`")
    assert "```text\nAll that it says of itself: <f, r>.\n```" in text
    assert "## Settings" in text


def test_every_data_set_and_every_setting_has_its_place():
    import facts_pages

    sections = facts_pages.sections_of_datasets()
    own = [name for name in registry.names("dataset") if registry.dataset(name).path.is_relative_to(ROOT)]
    assert re.findall(r"^## (.+)$", sections, re.MULTILINE) == own
    assert all(f"reference/datasets.md#{name})" in facts_pages.table_of_datasets() for name in own)
    settings = facts_pages.tables_of_settings()
    assert all(f"`{group}.{key}`" in settings for group, keys in GROUPS.items() for key in keys)


def test_every_command_and_option_has_its_place():
    import commands_page

    text, overview = commands_page.write_commands(), (DOCS / "commands.md").read_text()
    found = dict(commands_page.commands())
    assert {"run", "list", "data prepare"} <= found.keys()
    for name, command in found.items():
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        assert all(option in section for param in command.params for option in param.opts if option.startswith("-"))
        assert f"bench {name.split()[0]}" in overview, f"docs/commands.md does not say what `bench {name}` is for"


def test_pages_name_commands_and_targets_that_exist():
    import commands_page

    commands = {name.split()[0] for name, _ in commands_page.commands()}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in WRITTEN:
        text = path.read_text()
        code = "\n".join(
            [*re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
        )
        assert set(re.findall(r"^(?:\$ )?bench ([a-z]+)\b", code, re.MULTILINE)) <= commands, path
        assert set(re.findall(r"^(?:\$ )?make ([a-z-]+)\b", code, re.MULTILINE)) <= targets, path


def test_the_method_of_the_first_ten_minutes_works(backbone):
    (block,) = re.findall(r'```python\n(""".*?)```', (DOCS / "start.md").read_text(), re.DOTALL)
    names: dict[str, object] = {"__name__": "mine"}
    exec(compile(block, "mine.py", "exec"), names)
    method = names["Mine"](backbone, {"screw": "screw"})
    shots = torch.rand(2, 3, backbone.image_size, backbone.image_size, generator=torch.Generator().manual_seed(0))
    method.adapt(shots, "screw")
    predicted = method.predict(torch.cat([shots[:1], 1 - shots[:1]]), ["screw", "screw"])
    assert predicted.score[0] < 1e-5 < predicted.score[1]  # a shot lies at no distance from itself
    assert predicted.anomaly_map.shape[0] == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a > b > a", "circle"),
        ("a > b\nc > a > d\nx > b", None),
        ("a > b > c > d > e > f > g", "at most 6 columns"),
        ("a > a box of far too many words for three lines of text", "three lines"),
        ("a > b > c\nb > c\na > c", "in the way"),
    ],
)
def test_a_flow_that_cannot_be_drawn_is_refused(text, problem):
    from figures import FigureError, draw_flow, read_flow

    if problem is None:
        assert draw_flow(read_flow(text), "x").count("<rect") == 5
        return
    with pytest.raises(FigureError, match=problem):
        draw_flow(read_flow(text), "x")


def test_a_flow_says_its_arrows_in_words_and_draws_each_once():
    from figures import draw_flow, read_flow

    drawn = draw_flow(read_flow("in > tower* > score!\ntower ~> loss\nin > tower"), "x")
    assert "in leads to tower; tower leads to score; tower leads to loss (in the fit alone)" in drawn
    assert drawn.count("marker") == 0
    assert drawn.count('class="frozen"') == 2  # the box and its legend
    assert drawn.count('class="arrow fit"') == 2  # the arrow and its legend


def test_a_protocol_has_a_picture_of_what_it_shows():
    from figures import draw_protocol

    for name, (images, fits) in {"zero_shot": (21, 3), "few_shot": (15, 0), "multi_class": (15, 0)}.items():
        drawn = draw_protocol(name)
        assert drawn.count('class="image') == images
        assert drawn.count('class="arrow fit"') == fits
    held_out = draw_protocol("leave_one_class_out")
    assert held_out.count('class="image shot"') == 6
    assert held_out.count('class="arrow fit"') == 2  # the tested category's shots are never fitted on


def test_links_between_files_become_links_between_pages():
    import hooks

    def turned(text, file, uri):
        return hooks.relink(text, ROOT / file, uri)

    assert turned("[a](docs/protocols.md#shots)", "README.md", "index.md") == "[a](protocols.md#shots)"
    assert turned("![x](docs/overlays.png)", "README.md", "index.md") == "![x](overlays.png)"
    assert turned("[r](../results/README.md)", "docs/rows.md", "rows.md") == "[r](records.md)"
    assert turned("[c](CITATION.cff)", "README.md", "index.md") == "c"  # no page
    assert turned("[e](https://example.org/a.md)", "README.md", "index.md") == "[e](https://example.org/a.md)"
    fenced = "```\n[c](CITATION.cff)\n```"
    assert turned(fenced, "README.md", "index.md") == fenced


def test_the_version_on_the_pages_is_that_of_the_package(site):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"clip-ad-bench {version}, Apache-2.0" in (site / "index.html").read_text()
