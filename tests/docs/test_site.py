"""The documentation as it is built: whole, without a warning, and without asking any server."""

import re
from contextlib import suppress
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from chromium import MISSING, browsing, chromium

pytestmark = pytest.mark.slow

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}
FETCHED = re.compile(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)")
ADDRESS = re.compile(r"^(?:https?:)?//")


class Read(HTMLParser):
    """The places that an HTML file has, those that it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.places |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if values.get(LOADS.get(tag, "")):
            self.loaded.append(values[LOADS[tag]])


@cache
def read(path: Path) -> Read:
    return Read(path.read_text())


def test_nothing_is_warned_of(site):
    said = (site.parent / "said.txt").read_text()
    assert "Documentation built" in said
    assert not re.search(r"WARN|ERROR|not included in the|contains a link|no such anchor", said), said


def test_every_link_within_leads_somewhere(site):
    pages = [path for path in site.rglob("*.html") if path.name != "404.html"]
    assert len(pages) > 40
    lost = []
    for page in pages:
        for link in (*read(page).links, *read(page).loaded):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            found = target.is_file() and (
                not parts.fragment or target.suffix != ".html" or unquote(parts.fragment) in read(target).places
            )
            lost += [] if found else [f"{page.relative_to(site)}: {link}"]
    assert not lost


def test_no_file_loads_anything_from_a_server(site):
    asked = [(page, each) for page in site.rglob("*.html") for each in read(page).loaded if ADDRESS.match(each)]
    for sheet in site.rglob("*.css"):
        asked += [
            (sheet, each)
            for each in re.findall(r"(?:url\(|@import)\s*['\"]?((?:https?:)?//[^'\")]+)", sheet.read_text())
        ]
    assert not asked


@pytest.fixture(scope="module")
def browser():
    if chromium() is None:
        pytest.skip(MISSING)
    with browsing() as opened:
        yield opened


def watched(browser, **settings):
    """A page, and what goes wrong on it: requests to anything but files, messages of the console, errors."""
    page, wrong = browser.new_context(**settings).new_page(), []
    page.on(
        "request", lambda request: None if re.match("file:|data:|blob:", request.url) else wrong.append(request.url)
    )
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    return page, wrong


WIDE, NARROW = (1280, "dark"), (400, "light")
SEEN = {
    "index": (WIDE, NARROW),
    "methods/anople": (WIDE, NARROW),
    "protocols": (WIDE,),
    "reference/methods": (NARROW,),
    "measured/paper-tables": (NARROW,),
}


@pytest.mark.parametrize(("name", "width", "scheme"), [(name, *each) for name, its in SEEN.items() for each in its])
def test_a_page_opens_as_a_file_and_fits_its_window(site, browser, name, width, scheme):
    page, wrong = watched(browser, viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto((site / f"{name}.html").as_uri())
    page.wait_for_function("document.querySelector('[data-md-component=search]') !== null")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.dataset.mdColorScheme") == ("slate" if scheme == "dark" else "default")
    assert page.evaluate("[...document.images].filter((image) => !image.naturalWidth).length") == 0
    assert not wrong
    page.context.close()


def test_search_finds_words_without_a_server(site, browser):
    from playwright.sync_api import TimeoutError as TooLate  # absent where the test is skipped

    page, wrong = watched(browser, viewport={"width": 1280, "height": 900})
    found = page.locator(".md-search-result__link[href*='winclip']").first
    for _ in range(4):  # a busy machine may run the script of the page after the words were typed
        page.goto((site / "index.html").as_uri())
        page.fill("[data-md-component=search-query]", "harmonic mean of windows")
        with suppress(TooLate):
            found.wait_for(timeout=30_000)
            break
    assert found.is_visible()
    assert not wrong
    page.context.close()


@pytest.mark.parametrize("scheme", ["default", "slate"])
def test_words_of_a_figure_stand_out_from_their_box(site, browser, scheme):
    page, _ = watched(browser, color_scheme="dark" if scheme == "slate" else "light")
    page.goto((site / "methods/promptad.html").as_uri())
    ratios = page.evaluate(CONTRASTS)
    assert len(ratios) > 10
    assert min(ratios) >= 4.5  # WCAG AA
    page.context.close()


CONTRASTS = """() => {
    const shade = (text) => {
        const paint = document.createElement("canvas").getContext("2d");
        paint.fillStyle = text;
        paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data];
    };
    const light = ([red, green, blue]) => [red, green, blue]
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
    return [...document.querySelectorAll(".drawn g")].filter((group) => group.querySelector("text")).map((group) => {
        const box = shade(getComputedStyle(group.querySelector("rect")).fill);
        const [red, green, blue, alpha] = shade(getComputedStyle(group.querySelector("text")).fill);
        const word = [red, green, blue].map((value, i) => value * alpha / 255 + box[i] * (1 - alpha / 255));
        const [high, low] = [light(word), light(box)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    });
}"""
