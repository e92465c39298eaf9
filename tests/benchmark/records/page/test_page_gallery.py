"""Pictures show what methods got wrong and right; a map lies where its image shows it; nothing here stops a run."""

import base64
import hashlib
import io

import numpy as np
import pytest
from made_up_results import made_up, results
from PIL import Image
from twins import DEFECT, HEIGHT, WIDTH, save, write_mvtec_ad

from benchmark.records import predictions
from benchmark.records.page import gallery
from benchmark.records.page.content import behind
from benchmark.records.page.gallery import NO_PREDICTIONS, show_images
from benchmark.records.page.write import FILE
from benchmark.records.predictions import Predicted

FINISH = {"size": None, "sigma": 0.0, "align_corners": False}
CATEGORIES = ("bottle", "metal_nut")


def keep(store, root, scores, maps=None, finish=FINISH):
    """Keep for each record a score, and a map, of every test image of its category.

    Args:
        scores: of method, name of the image and its label.
        maps: likewise, (rows, columns); None keeps none.
    """
    for record in store.all_current():
        files = sorted(file for name in record.cell.categories for file in (root / name / "test").glob("*/*.png"))
        names = [file.relative_to(root).as_posix() for file in files]
        labels = [file.parent.name != "good" for file in files]
        asked = [(record.cell.method, name, label) for name, label in zip(names, labels, strict=True)]
        told = Predicted(
            names,
            [name.partition("/")[0] for name in names],
            [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
            np.array(labels),
            np.array([scores(*its) for its in asked], np.float32),
            np.stack([maps(*its) for its in asked]).astype(np.float32) if maps else None,
            finish,
        )
        predictions.write(predictions.path_of(store.folder, record), told)


def at_random(method, name, label):
    return np.random.default_rng([*f"{method}{name}".encode()]).uniform()


def shown(store, made):
    return show_images(store, made.wide, behind(made))


def pixels(uri):
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2]))).convert("RGB")).astype(int)


def glow(uri):
    """Row and column of the brightest place of a map: red and green are high at its top."""
    picture = pixels(uri)
    return np.unravel_index((picture[..., 0] + picture[..., 1]).argmax(), picture.shape[:2])


@pytest.fixture
def root(tmp_path):
    return write_mvtec_ad(tmp_path / "data" / "mvtec_ad")


def rows_of(root, folder, methods=("m", "n"), *, joint=False):
    """Rows of these methods, the best first, with a cell for each category or one for both."""
    records = [
        made_up(method, "mvtec_ad", categories, root=root, values=1 - 0.01 * place)
        for place, method in enumerate(methods)
        for categories in ([CATEGORIES] if joint else [(category,) for category in CATEGORIES])
    ]
    return results(folder, records)


@pytest.mark.parametrize("joint", [False, True])
def test_misses_and_hits_are_those_of_the_mean_rank_within_a_category(root, tmp_path, joint):
    """m and n agree but for scale; metal_nut scores a hundred times as high, which ranks within it do not see."""
    order = {}

    def scores(method, name, label):
        place = order.setdefault(name, len(order) % 7)
        low, high = "broken_large/000" in name, "good/001" in name
        value = 0.0 if low else 10.0 if high else 5 + label + 0.1 * place
        return value * (100 if "metal_nut" in name else 1) * (3 if method == "n" else 1)

    store, made = rows_of(root, tmp_path / "r", joint=joint)
    keep(store, root, scores)
    (group,) = shown(store, made)["groups"]
    misses = {
        (its["category"], its["name"].partition("test/")[2]) for its in group["pictures"] if its["what"] == "miss"
    }
    assert misses == {(c, name) for c in CATEGORIES for name in ("broken_large/000.png", "good/001.png")}
    hits = [its for its in group["pictures"] if its["what"] == "hit"]
    assert len(hits) == 4
    assert all(its["anomalous"] for its in hits)
    assert {tuple(map(tuple, its["ranks"])) for its in group["pictures"] if "good/001" in its["name"]} == {
        ((1, 7), (1, 7))
    }
    assert {tuple(map(tuple, its["ranks"])) for its in group["pictures"] if "large/000" in its["name"]} == {
        ((7, 7), (7, 7))
    }
    assert [made.wide.loc[place, "method"] for place in group["rows"]] == ["m", "n"]


def test_images_and_truth_are_those_of_the_disk(root, tmp_path):
    store, made = rows_of(root, tmp_path / "r")
    keep(store, root, at_random)
    (group,) = shown(store, made)["groups"]
    files = [*root.rglob("test/*/*.png")]
    for its in group["pictures"]:
        image, truth, *maps = its["uris"]
        assert pixels(image).shape == (HEIGHT, WIDTH, 3)
        away = {file: np.abs(pixels(image) - np.array(Image.open(file)).astype(int)).mean() for file in files}
        assert min(away, key=away.get) == root / its["name"]
        assert maps == [None, None]
        assert (truth is None) == (not its["anomalous"])
        if truth:
            drawn = np.abs(pixels(truth) - pixels(image)).max(axis=-1) > 100
            rows, columns = np.nonzero(drawn)
            box = rows.min(), rows.max(), columns.min(), columns.max()
            wanted = DEFECT[0].start - 1, DEFECT[0].stop, DEFECT[1].start - 1, DEFECT[1].stop
            np.testing.assert_allclose(box, wanted, atol=1)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(5, 20), (16, 16)])
def test_the_hot_place_of_a_map_lies_where_it_should(tmp_path, rows, columns, align_corners):
    """Images are 200 wide and 100 high, black; the map glows in one cell, another one for each image."""
    root = write_mvtec_ad(tmp_path / "data")
    for file in root.rglob("test/*/*.png"):
        save(Image.new("RGB", (200, 100)), file)
    places = {}

    def hot(method, name, label):
        own = np.zeros((rows, columns))
        place = places.setdefault(name, ((3 * len(places) + 1) % rows, (7 * len(places) + 2) % columns))
        own[place] = 1.0
        return own

    store, made = rows_of(root, tmp_path / "r", methods=("m",))
    keep(store, root, at_random, hot, {"size": [64, 64], "sigma": 1.0, "align_corners": align_corners})
    (group,) = shown(store, made)["groups"]
    assert len(group["pictures"]) == 8
    for its in group["pictures"]:
        row, column = places[its["name"]]
        if align_corners:
            expected = ((row * 63 / (rows - 1) + 0.5), (column * 63 / (columns - 1) + 0.5))
        else:
            expected = (row + 0.5) * 64 / rows, (column + 0.5) * 64 / columns
        found = glow(its["uris"][2])
        np.testing.assert_allclose(found, (expected[0] - 0.5, 2 * expected[1] - 0.5), atol=3.5)


def test_colours_span_the_maps_of_one_model(root, tmp_path):
    """m's maps lie around 1000 and vary by 1, n's around 0 and vary by 100: both use all colours."""

    def maps(method, name, label):
        own = np.linspace(0, 1, 16).reshape(4, 4)
        return 1000 + own if method == "m" else 100 * own

    store, made = rows_of(root, tmp_path / "r")
    keep(store, root, at_random, maps)
    (group,) = shown(store, made)["groups"]
    for its in group["pictures"]:
        for uri in its["uris"][2:]:
            picture = pixels(uri)[..., 0]
            means = [picture[5 * part : 5 * part + 5].mean() for part in range(4)]  # from the top to the bottom
            assert np.diff(means).min() > 10


def test_at_most_six_methods_are_shown_and_the_others_are_counted(root, tmp_path):
    store, made = rows_of(root, tmp_path / "r", methods="abcdefgh")
    keep(store, root, at_random)
    (group,) = shown(store, made)["groups"]
    assert [made.wide.loc[place, "method"] for place in group["rows"]] == [*"abcdef"]
    assert group["left"] == 2


def test_the_first_group_of_each_data_set_comes_first_and_room_is_kept(root, tmp_path, monkeypatch):
    records = [made_up("m", "mvtec_ad", ("bottle",), root=root, shots=shots) for shots in (1, 2, 4)]
    store, made = results(tmp_path / "r", records)
    keep(store, root, at_random)
    monkeypatch.setattr(gallery, "BUDGET", 1)
    told = shown(store, made)
    assert len(told["groups"]) == 1
    assert told["said"] == [
        "2 more comparisons have no pictures here, since the page holds about 3 MB of them at most."
    ]
    assert made.wide.loc[told["groups"][0]["row"], "shots"] == 1


def test_a_row_of_which_nothing_was_kept_is_left_out(root, tmp_path):
    store, made = rows_of(root, tmp_path / "r")
    keep(store, root, at_random)
    for record in store.all_current():
        if record.cell.method == "m":
            predictions.path_of(store.folder, record).unlink()
    (group,) = shown(store, made)["groups"]
    assert [made.wide.loc[place, "method"] for place in group["rows"]] == ["n"]
    for record in store.all_current():
        predictions.path_of(store.folder, record).unlink(missing_ok=True)
    assert shown(store, made) == {"groups": [], "said": [NO_PREDICTIONS]}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("absent", "no data for 'mvtec_ad'"),
        ("changed", "is another file than the one that was tested"),
        ("damaged", "cannot be read as an image"),
        ("renamed", "is no test image of mvtec_ad"),
        ("finish", "'sigma'"),
    ],
)
def test_what_cannot_be_read_is_said(root, tmp_path, fault, words):
    store, made = rows_of(root, tmp_path / "r")
    if fault == "damaged":
        for file in root.rglob("test/*/*.png"):
            file.write_bytes(file.read_bytes()[:60])
    finish = {"size": None} if fault == "finish" else FINISH
    keep(store, root, at_random, lambda *_: np.ones((2, 2)), finish)
    if fault == "absent":
        root.rename(root.with_name("elsewhere"))
    for file in [*root.rglob("test/*/*.png")]:
        if fault == "changed":
            save(Image.new("RGB", (9, 9)), file)
        elif fault == "renamed" and file.parent.name == "good":
            file.rename(file.with_name(f"other-{file.name}"))
    told = shown(store, made)
    assert told["groups"] == []
    assert words in told["said"][0]
    assert told["said"][0].startswith("No pictures of mvtec_ad, few_shot, 1 shots: ")


def test_a_page_that_may_be_published_holds_no_image_of_a_data_set(root, tmp_path, bench):
    store, _ = rows_of(root, tmp_path / "r")
    keep(store, root, lambda method, name, label: label)
    for words, there in (((), True), (("--no-pictures",), False)):
        assert bench("leaderboard", store.folder, *words).code == 0
        assert ("data:image/webp" in (store.folder / FILE).read_text()) == there
