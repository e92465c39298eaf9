"""The synthetic set: reproducible pictures, masks that mark what changed, files that are whole or rendered again."""

import hashlib
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datamodules.components.rendering import CATEGORIES, GOOD, cache, render, render_twin
from datamodules.components.rendering.cache import MANIFEST, Counts, materialise
from datamodules.components.rendering.defects import DAMAGE
from datamodules.components.rendering.noise import stream

pytestmark = pytest.mark.slow

PAIRS = [(category, defect) for category, spec in CATEGORIES.items() for defect in spec.defects]
SMALL = {"size": 32, "counts": Counts(2, 1, 1), "categories": ("gear", "wood")}


@pytest.fixture
def made(tmp_path) -> Path:
    folder = tmp_path / "set"
    materialise(folder, **SMALL)
    return folder


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def state(folder: Path) -> dict[str, str]:
    return {p.name + p.parent.as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.png")}


def test_streams_are_the_same_everywhere():
    # PCG64 seeded by hand with the first 16 bytes of the sha256 of the words, big-endian
    digest = hashlib.sha256(b"0\x1fgear\x1fscene").digest()[:16]
    by_hand = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))
    assert stream(0, "gear", "scene").integers(2**32, size=4).tolist() == by_hand.integers(2**32, size=4).tolist()


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_picture_is_a_pure_function_of_its_words(category):
    def shown(seed=0, split="train", index=0):
        return render(category, split, GOOD, index, seed=seed, size=64).image

    image = shown()
    assert image.shape == (64, 64, 3)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, shown())
    for other in (shown(seed=1), shown(split="test"), shown(index=1)):
        assert np.abs(image.astype(int) - other).mean() > 2.0


def test_a_picture_is_the_same_in_another_process():
    program = (
        "import hashlib; from datamodules.components.rendering import render; "
        "print(hashlib.sha256(render('keypad', 'test', 'sunken', 0, size=64).image.tobytes()).hexdigest())"
    )
    here = hashlib.sha256(render("keypad", "test", "sunken", 0, size=64).image.tobytes()).hexdigest()
    assert _python(program).communicate()[0].strip() == here


@pytest.mark.parametrize(("category", "defect"), PAIRS)
def test_a_mask_marks_what_changed(category, defect):
    size = 128
    for index in range(2):
        image, mask = render(category, "test", defect, index, size=size)
        change = np.abs(image.astype(float) - render_twin(category, "test", defect, index, size=size)).mean(axis=2)
        assert mask.dtype == bool
        assert 0.0003 < mask.mean() < 0.12
        # shadows, highlights and the lens reach a little beyond what was changed
        near = cv2.dilate(mask.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
        assert change[near].sum() > 0.95 * change.sum()
        assert change[mask].mean() > 3.0  # of 255: an attentive eye sees it
        assert change[mask].mean() > 10.0 * change[~near].mean()


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_good_picture_is_its_own_twin(category):
    image, mask = render(category, "test", GOOD, 0, size=64)
    assert not mask.any()
    np.testing.assert_array_equal(image, render_twin(category, "test", GOOD, 0, size=64))


@pytest.mark.parametrize(("category", "defect"), [pair for pair in PAIRS if pair[1] in DAMAGE])
def test_damage_is_neutral_in_colour(category, defect):
    image, mask = render(category, "test", defect, 0, size=128)
    twin = render_twin(category, "test", defect, 0, size=128)
    now, before = image[mask].mean(axis=0), twin[mask].mean(axis=0)
    assert np.abs(now / now.mean() - before / before.mean()).max() < 0.04


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match=r"unknown category 'cog'.*gear"):
        render("cog", "test", GOOD, 0)
    with pytest.raises(ValueError, match=r"unknown defect 'thread' of 'gear'. Allowed: good, misplaced"):
        render("gear", "test", "thread", 0)
    with pytest.raises(ValueError, match="32 pixels or more, got 16"):
        render("gear", "test", GOOD, 0, size=16)


def test_files_are_the_rendered_images(made):
    for name, entry in json.loads((made / MANIFEST).read_text())["files"].items():
        assert hashlib.sha256(pixels(made / name).tobytes()).hexdigest() == entry["pixels_sha256"]
    rendered = render("wood", "test", "hole", 0, size=32)
    np.testing.assert_array_equal(pixels(made / "wood/test/hole/000.png"), rendered.image)
    mask = pixels(made / "wood/ground_truth/hole/000_mask.png")
    np.testing.assert_array_equal(mask, rendered.mask * np.uint8(255))
    assert {*np.unique(mask)} == {0, 255}
    # (2 training + 1 normal + 3 defects with their masks) of 2 categories
    assert len(list(made.rglob("*.png"))) == 2 * (2 + 1 + 2 * 3)
    assert [p.name for p in made.parent.iterdir()] == ["set"]


def test_a_whole_set_is_left_alone(made, monkeypatch, caplog):
    monkeypatch.setattr(cache, "render", None)
    materialise(made, **SMALL)
    assert not caplog.records


@pytest.mark.parametrize("harm", ["cut", "flipped", "missing", "extra", "manifest"])
def test_a_damaged_set_is_rendered_again(made, caplog, harm):
    whole, victim = state(made), made / "gear/test/missing/000.png"
    content = victim.read_bytes()
    if harm == "cut":
        victim.write_bytes(content[:-20])
    elif harm == "flipped":
        victim.write_bytes(content[:-30] + bytes([content[-30] ^ 1]) + content[-29:])
    elif harm == "missing":
        victim.unlink()
    elif harm == "extra":
        (victim.parent / "001.png").write_bytes(content)
    else:
        (made / MANIFEST).write_text('{"files": {"a')
    with caplog.at_level(logging.WARNING):
        materialise(made, **SMALL)
    named = {"extra": "gear/test/missing/001.png", "manifest": MANIFEST}.get(harm, "gear/test/missing/000.png")
    assert named in caplog.text
    assert state(made) == whole
    assert [p.name for p in made.parent.iterdir()] == ["set"]


def test_an_interrupted_set_leaves_nothing(tmp_path, monkeypatch):
    rendered = []

    def tired(*words, **settings):
        rendered.append(words)
        if len(rendered) > 5:
            raise KeyboardInterrupt
        return render(*words, **settings)

    monkeypatch.setattr(cache, "render", tired)
    with pytest.raises(KeyboardInterrupt):
        materialise(tmp_path / "set", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_half_set(tmp_path):
    program = (
        "import os; from pathlib import Path; from datamodules.components.rendering import cache\n"
        "render, n = cache.render, []\n"
        "cache.render = lambda *w, **s: (n.append(1), len(n) > 5 and os.kill(os.getpid(), 9), render(*w, **s))[2]\n"
        f"cache.materialise(Path({str(tmp_path / 'set')!r}), size=32, categories=('gear', 'wood'))"
    )
    assert _python(program).wait() == -9
    assert not (tmp_path / "set").exists()
    materialise(tmp_path / "set", **SMALL)
    assert cache.find_damage(tmp_path / "set") is None


def test_two_processes_at_once_make_one_set(tmp_path, made):
    folder = tmp_path / "shared"
    program = (
        "from pathlib import Path; from datamodules.components.rendering.cache import Counts, materialise; "
        f"materialise(Path({str(folder)!r}), size=32, counts=Counts(2, 1, 1), categories=('gear', 'wood'))"
    )
    both = [_python(program) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert cache.find_damage(folder) is None
    assert [p.read_bytes() for p in sorted(folder.rglob("*.png"))] == [
        p.read_bytes() for p in sorted(made.rglob("*.png"))
    ]
    assert {p.name for p in tmp_path.iterdir()} == {"set", "shared"}


@pytest.mark.parametrize("rival_is_whole", [True, False])
def test_a_rival_that_finished_first(tmp_path, monkeypatch, rival_is_whole):
    folder, write = tmp_path / "set", cache._write

    def overtaken(fresh, *words):
        write(fresh, *words)
        write(folder, *words)
        if not rival_is_whole:
            (folder / MANIFEST).unlink()

    monkeypatch.setattr(cache, "_write", overtaken)
    materialise(folder, **SMALL)
    assert cache.find_damage(folder) is None
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_every_category_has_defects_enough():
    assert all(3 <= len(spec.defects) <= 4 for spec in CATEGORIES.values())
    assert len({defect for spec in CATEGORIES.values() for defect in spec.defects}) >= 8


def _python(program: str) -> subprocess.Popen:
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "PYTHONHASHSEED": "7"}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
