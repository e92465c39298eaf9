"""The page in a browser: what a user sees, clicks and types; and that data stay data and nothing is asked for."""

import re

import numpy as np
import pytest
from chromium import MISSING, browsing, chromium
from made_up_results import made_up, results
from twins import write_mvtec_ad

from benchmark.records import predictions
from benchmark.records.page.write import write_page
from benchmark.records.predictions import Predicted
from datamodules.components.content import file_digest

pytestmark = pytest.mark.skipif(chromium() is None, reason=MISSING)

MARKUP = "<img src=x onerror=window.hacked=1>"
SCRIPT = "</script><script>window.hacked=1</script>"
TWIN = ("bottle", "metal_nut")


INTRUDER = """() => {
    document.addEventListener("securitypolicyviolation", (event) => (window.blocked ??= []).push(event.blockedURI));
    const script = document.createElement("script");
    script.textContent = "window.hacked = 1";
    document.body.append(script);
    document.body.insertAdjacentHTML("beforeend", "<img src=x onerror=window.hacked=1>");
    const image = document.createElement("img");
    image.src = "https://example.org/x.png";
    document.body.append(image);
}"""


def records(root):
    """Rows on a twin of MVTec AD, which lack categories; rows that are ok; and data that would be markup."""
    found = [
        made_up(method, "mvtec_ad", (category,), shots=shots, seed=seed, root=root, seconds=seconds,
                values={"image_AUROC": value + 0.1 * seed + 0.02 * shots, "pixel_AP": None})
        for method, value, seconds in (("nearest_patch", 0.6, 1.0), ("winclip", 0.8, 40.0), ("trivial", 0.3, 0.01))
        for category in TWIN for shots in (1, 2) for seed in (0, 1)
    ]  # fmt: skip
    hostile = made_up(MARKUP, MARKUP, (f"<b>{MARKUP}", f"{MARKUP}2"), settings={"prompt": SCRIPT}, remarks=[SCRIPT],
                      provenance={"device": MARKUP})  # fmt: skip
    failed = made_up("plain", MARKUP, status="failed", error={"type": MARKUP, "message": SCRIPT, "traceback": ""})
    ranked = [made_up(name, values={"image_AUROC": value}) for name, value in (("good", 0.7), ("even", 0.6))]
    leaky = made_up("leaky", values=0.9, leaks={"tested": 10, "shots": ["bolt/test/good/0.png"]})
    return [*found, *ranked, leaky, hostile, failed]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    root = write_mvtec_ad(folder / "data")
    store, made = results(folder / "results & <b>", records(root))
    for record in store.all_current():
        if record.cell.dataset != "mvtec_ad":
            continue
        files = sorted((root / record.cell.part / "test").glob("*/*.png"))
        scores = np.arange(len(files), dtype=np.float32)
        predictions.write(
            predictions.path_of(store.folder, record),
            Predicted(
                [file.relative_to(root).as_posix() for file in files],
                [record.cell.part] * len(files),
                [file_digest(file) for file in files],
                np.array([file.parent.name != "good" for file in files]),
                scores,
                np.random.default_rng(0).normal(size=(len(files), 4, 4)).astype(np.float32),
                {"size": [24, 24], "sigma": 1.0, "align_corners": False},
            ),
        )
    return write_page(store, made)


@pytest.fixture(scope="module")
def browser():
    with browsing() as opened:
        yield opened


@pytest.fixture
def open_page(browser, page):
    """Open the page in a window of its own; at the end nothing may have been asked for, said or hacked."""
    opened = []

    def call(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        tab, said = context.new_page(), []
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url) if not allowed(request.url) else None)
        tab.route(re.compile("^(?!file:|data:)"), lambda route: route.abort())
        tab.goto(page.as_uri())
        opened.append((context, tab, said))
        return tab

    def allowed(url):
        return url == page.as_uri() or url.startswith("data:image/webp;base64,")

    yield call
    for context, tab, said in opened:
        assert said == []
        assert tab.evaluate("window.hacked") is None
        context.close()


def group_of(tab, heading):
    return tab.locator(".group", has=tab.locator("h2", has_text=heading)).first


def methods(group):
    return group.locator("tbody th").all_text_contents()


def test_the_table_shows_means_in_percent_and_the_best_in_bold(open_page):
    tab = open_page()
    group = group_of(tab, "mvtec_ad few shot, 1 shot")
    assert methods(group) == ["winclip", "nearest_patch", "trivial"]
    row = group.locator("tbody tr").first
    assert row.locator("td").first.text_content().split() == ["87.0", "±", "7.1"]
    assert row.locator("td").nth(4).text_content().strip() == "–"
    assert group.locator("tbody tr").last.locator("td").first.text_content().split()[:2] == ["37.0", "▼"]
    assert group.locator(".best").count() == 0  # its rows lack categories
    assert methods(group_of(tab, "plugin_set"))[0] == "leaky"
    assert group_of(tab, "plugin_set").locator("td:has(.best) >> nth=0").text_content() == "70.0"
    assert group_of(tab, "plugin_set").locator("tr:has(.best) th").all_text_contents() == ["good", "even"]


def test_a_heading_sorts_both_ways_and_keeps_the_focus(open_page):
    tab = open_page()
    group = group_of(tab, "mvtec_ad few shot, 1 shot")
    assert group.locator("[aria-sort=descending]").text_content().split() == ["image", "AUROC"]
    group.locator("[data-sort=metric-0]").click()
    assert methods(group) == ["trivial", "nearest_patch", "winclip"]
    assert group.locator("[aria-sort=ascending]").count() == 1
    group.locator("[data-sort=method-0]").click()
    assert methods(group) == ["nearest_patch", "trivial", "winclip"]
    assert tab.evaluate("document.activeElement.textContent") == "method"


def test_missing_values_stand_last_whichever_way_is_sorted(open_page):
    tab = open_page()
    order = tab.evaluate(
        "sorted([{values: [null]}, {values: [1]}, {values: [2]}], {key: 'metric', at: 0, down: false})"
        ".concat(sorted([{values: [null]}, {values: [1]}, {values: [2]}], {key: 'metric', at: 0, down: true}))"
        ".map((row) => row.values[0])"
    )
    assert order == [1, 2, None, 2, 1, None]


def test_filters_leave_what_was_asked_for_and_count_it(open_page):
    from playwright.sync_api import expect  # absent where the test is skipped

    tab = open_page()
    everything = tab.locator(".group").count()
    tab.select_option("#filter-dataset", "mvtec_ad")
    tab.select_option("#filter-kind", label="whole sets")
    tab.select_option("#filter-shots", "2")
    assert tab.locator(".group h2").all_text_contents() == ["mvtec_ad few shot, 2 shots"]
    tab.fill("#filter-method", "WIN")
    assert methods(tab.locator(".group")) == ["winclip"]
    assert tab.inner_text("#count").startswith("1 of ")
    tab.fill("#filter-method", "nothing of this name")
    assert tab.locator(".empty").inner_text() == "No row passes these filters."
    for field in ("dataset", "kind", "shots"):
        tab.select_option(f"#filter-{field}", "")
    tab.fill("#filter-method", "")
    expect(tab.locator(".group")).to_have_count(everything)  # rows are drawn in slices


def test_a_number_opens_the_records_behind_it(open_page, page):
    tab = open_page()
    group_of(tab, "mvtec_ad few shot, 2 shots").locator("tbody tr").nth(1).locator("td").nth(1).click()
    panel = tab.locator("dialog")
    assert panel.locator("h2").inner_text() == "nearest_patch"
    assert "The 4 records behind image AP" in panel.inner_text()
    links = panel.locator("a")
    assert links.count() == 4
    for link in links.all():
        assert (page.parent / link.get_attribute("href")).is_file()
    lines = panel.locator("[aria-label='means by category'] tbody tr")
    assert lines.all_text_contents()[0].startswith("bottle69.0 ± 7.1")
    assert [its.split("69.0")[0] for its in lines.all_text_contents()] == ["bottle", "metal_nut"]


def test_published_figures_are_told_apart(open_page):
    tab = open_page()
    row = group_of(tab, "mvtec_ad few shot, 1 shot").locator("tbody tr").first
    assert re.fullmatch(r"9\d\.\d", row.locator(".published cite").text_content().split(" to ")[0])
    assert row.locator(".published small").text_content() == "not comparable"
    assert row.locator(".published [data-metric]").count() == 0
    row.locator("button").click()
    assert "Published, not measured here" in tab.inner_text("dialog")


def test_the_keyboard_reaches_rows_tabs_and_charts(open_page):
    tab = open_page()
    tab.focus("#tab-table")
    tab.keyboard.press("Tab")  # the first table may be scrolled
    for _ in range(30):
        if tab.evaluate("document.activeElement.className") == "open":
            break
        tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    assert tab.locator("dialog").get_attribute("open") is not None
    tab.keyboard.press("Escape")
    assert tab.locator("dialog").get_attribute("open") is None
    assert tab.evaluate("document.activeElement.className") == "open"
    tab.focus("#tab-table")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.id") == "tab-curves"
    assert tab.locator("#tab-curves").get_attribute("aria-selected") == "true"
    tab.focus(".series-list button")
    tab.keyboard.press("Space")
    assert tab.locator("svg.choosing .series.on").count() == 1
    tab.focus("#tab-curves")
    tab.keyboard.press("End")
    assert tab.evaluate("document.activeElement.id") == "tab-gallery"


def test_curves_join_the_shots_of_a_method(open_page):
    tab = open_page()
    tab.click("#tab-curves")
    card = tab.locator(".card", has_text="mvtec_ad").first
    assert card.locator("path.curve").count() == 3
    said = card.locator("li", has_text="winclip").inner_text().split("\n")
    assert said == ["winclip", "1: 87.0 ± 7.1, 2: 89.0 ± 7.1"]
    marks = card.locator("[data-series='0'] > :not(line, .curve)")
    ys = [mark.bounding_box()["y"] for mark in marks.all()]
    assert ys[1] < ys[0]  # two shots are better and so higher


def test_costs_are_those_of_the_records_and_may_be_of_whole_cells(open_page):
    tab = open_page()
    tab.click("#tab-costs")
    card = tab.locator(".card", has_text="mvtec_ad few shot, 1 shot")
    said = [line.split("\n")[1] for line in card.locator("li").all_inner_texts()]
    assert said == ["87.0 ± 7.1, 4.0 s", "67.0 ± 7.1, 100 ms", "37.0 ± 7.1, 1 ms"]
    tab.select_option("#cost", "cell")
    said = [line.split("\n")[1] for line in card.locator("li").all_inner_texts()]
    assert said == ["87.0 ± 7.1, 42.5 s", "67.0 ± 7.1, 3.5 s", "37.0 ± 7.1, 2.5 s"]
    xs = [card.locator(f"[data-series='{at}'] > *").last.bounding_box()["x"] for at in range(3)]
    assert xs == sorted(xs, reverse=True)


def test_a_method_looks_alike_in_every_chart_and_like_no_other(open_page):
    tab, looks = open_page(), {}
    for view in ("curves", "costs"):
        tab.click(f"#tab-{view}")
        for item in tab.locator(".card li").all():
            swatch = item.locator("svg")
            look = (swatch.get_attribute("class"), swatch.locator("> *").evaluate("shape => shape.outerHTML"))
            looks.setdefault(item.locator("span").inner_text(), set()).add(look)
    assert {"winclip", "nearest_patch", "trivial", "good", "even"} <= {*looks}
    assert all(len(its) == 1 for its in looks.values())
    assert len({look for its in looks.values() for look in its}) == len(looks)


def test_the_metric_of_plots_can_be_chosen(open_page):
    tab = open_page()
    tab.select_option("#filter-dataset", "mvtec_ad")
    tab.select_option("#filter-metric", label="image AP")
    assert tab.locator("[aria-sort]").first.text_content().split() == ["image", "AP"]
    tab.click("#tab-costs")
    assert tab.locator(".card li").first.inner_text().split("\n")[1].startswith("50.0 ± 0.0")
    tab.select_option("#filter-metric", label="pixel AP")
    assert tab.locator(".empty").inner_text() == "No row under these filters has both this metric and a time."


def test_pictures_load(open_page):
    tab = open_page()
    tab.click("#tab-gallery")
    tab.wait_for_function("[...document.images].every((image) => image.complete)")
    sizes = tab.evaluate("[...document.images].map((image) => [image.naturalWidth, image.naturalHeight])")
    assert len(sizes) >= 2 * 8 * 4
    assert {tuple(size) for size in sizes} == {(24, 20)}
    assert all(image.get_attribute("alt") for image in tab.locator("img").all())
    assert tab.locator("h3").all_text_contents()[:2] == ["Worst misses", "Best hits"]


def test_markup_in_data_is_shown_as_it_is_written(open_page):
    tab = open_page()
    name = f"{MARKUP}(prompt={SCRIPT})"
    tab.locator("button.open", has_text=name).click()
    text = tab.inner_text("dialog")
    for words in (name, f"<b>{MARKUP}", f"Ran on {MARKUP}", SCRIPT):
        assert words in text
    tab.keyboard.press("Escape")
    tab.locator(".group", has_text="plain").locator("button.open").click()
    assert f"failed: {MARKUP}: {SCRIPT}" in tab.inner_text("dialog")
    tab.keyboard.press("Escape")
    for view in ("curves", "costs", "gallery"):
        tab.click(f"#tab-{view}")
    assert tab.locator("img:not([src^='data:']), b, iframe, object").count() == 0
    assert tab.locator("script").count() == 2
    assert tab.title() == "results & <b> · leaderboard"


def test_the_policy_stops_what_gets_in_nevertheless(browser, page):
    tab = browser.new_page()
    tab.goto(page.as_uri())
    tab.evaluate(INTRUDER)
    tab.wait_for_function("window.blocked?.includes('https://example.org/x.png')")
    assert tab.evaluate("window.hacked") is None
    tab.close()


def test_a_narrow_window_scrolls_the_table_under_the_names(open_page):
    tab = open_page(400)
    left = tab.evaluate("""() => { const box = document.querySelector(".scroll"); box.scrollLeft = 9999;
        return [box.scrollLeft, box.querySelector("tbody th").getBoundingClientRect().x]; }""")
    assert left[0] > 300
    assert 0 <= left[1] < 30


@pytest.mark.parametrize(
    ("scheme", "width"),
    [
        ("light", 1280),
        ("dark", 400),
        pytest.param("light", 400, marks=pytest.mark.campaign),
        pytest.param("dark", 1280, marks=pytest.mark.campaign),
    ],
)
def test_every_view_fits_is_legible_and_passes_axe(open_page, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    tab = open_page(width, scheme)
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor").removeprefix("rgb(").rstrip(")").split(",")
    assert (sum(map(int, ground)) > 3 * 128) == (scheme == "light")
    for view in ("table", "curves", "costs", "gallery", "panel"):
        if view == "panel":
            tab.click("#tab-table")
            tab.locator("button.open").first.click()
        else:
            tab.click(f"#tab-{view}")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        found = Axe().run(tab).response["violations"]
        assert [(its["id"], its["nodes"][0]["html"]) for its in found if its["impact"] in ("serious", "critical")] == []
