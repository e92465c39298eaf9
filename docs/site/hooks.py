"""What MkDocs adds to the pages of docs/: figures, tables made of the code, and files of the repository as pages.

A page says `<!-- insert: NAME ARGUMENTS -->` where something belongs that is made; `INSERTS` lists what can be.
"""

import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import commands_page
import facts_pages
import method_pages
from benchmark.request import registry
from figures import draw_protocol

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
#: Files of the repository that are pages too: page and file.
PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changes.md": "CHANGELOG.md",
    "records.md": "results/README.md",
    "embedded.md": "methods/components/clip/embedded.md",
    "measured/smoke.md": "results/smoke/leaderboard.md",
    "measured/elpv.md": "results/elpv/leaderboard.md",
    "measured/paper-tables.md": "results/paper-tables/leaderboard.md",
    "measured/anople-ablation.md": "results/anople-ablation/ablation.md",
    "measured/finegrainedad-ablation.md": "results/finegrainedad-ablation/ablation.md",
    "measured/throughput.md": "results/throughput.md",
}
#: Titles of those that have none.
TITLES = {
    "measured/smoke.md": "The first leaderboard",
    "measured/elpv.md": "Solar cells, photographed",
    "measured/paper-tables.md": "All methods on the drawn set",
    "measured/anople-ablation.md": "AnoPLe without a part",
    "measured/finegrainedad-ablation.md": "FineGrainedAD without a part",
}
INSERTS: dict[str, Callable[..., str]] = {
    "protocol": draw_protocol,
    "methods": method_pages.table_of_methods,
    "datasets": facts_pages.table_of_datasets,
    "every-dataset": facts_pages.sections_of_datasets,
    "presets": facts_pages.table_of_presets,
    "settings": facts_pages.tables_of_settings,
    "commands": commands_page.write_commands,
}
_INSERT = re.compile(r"^<!-- insert: ([\w-]+) ?(.*?) -->$", re.MULTILINE)
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """Name the methods in the navigation, and the version, which pyproject.toml alone holds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    config.copyright = f"clip-ad-bench {project['version']}, {project['license']}"
    (methods,) = [group["Methods"] for group in config.nav if "Methods" in group]
    methods += [f"methods/{name}.md" for name in method_pages.names() if f"methods/{name}.md" not in methods]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the files of the repository that are pages, and a page for each method that nobody has written one for."""
    for page, file in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / file)))
    for name in method_pages.names():
        page = f"methods/{name}.md"
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=method_pages.unwritten(name)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in what is made, and turn links between files of the repository into links between pages."""
    uri = page.file.src_uri
    markdown = f"# {TITLES[uri]}\n\n{markdown}" if uri in TITLES else markdown
    folder, _, name = uri.rpartition("/")
    if folder == "methods" and name.removesuffix(".md") in method_pages.names():
        markdown = method_pages.complete(registry.method(name.removesuffix(".md")), markdown, page.meta)
    origin = ROOT / PAGES[uri] if uri in PAGES else DOCS / uri
    return relink(_INSERT.sub(lambda match: INSERTS[match[1]](*match[2].split()), markdown), origin, uri)


def relink(markdown: str, origin: Path, uri: str) -> str:
    """Links of the file `origin` as the page `uri` must have them; a link to what is no page becomes its text."""
    pages = {(ROOT / file).resolve(): page for page, file in PAGES.items()}

    def turn(match: re.Match[str]) -> str:
        label, target, anchor = match[1], match[2], match[3] or ""
        file = (origin.parent / target).resolve()
        if "://" in target or target.startswith("mailto:") or (origin.is_relative_to(DOCS) and not file.exists()):
            return match[0]  # elsewhere, or a page that is made; MkDocs says what it does not find
        page = pages.get(file) or (file.relative_to(DOCS).as_posix() if file.is_relative_to(DOCS) else "")
        if not page:
            return label.lstrip("!")[1:-2]
        return f"{label}{os.path.relpath(page, Path(uri).parent)}{anchor})"

    fences = re.split(r"(^```.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(part if part.startswith("```") else _LINK.sub(turn, part) for part in fences)
