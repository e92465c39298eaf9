"""Every file below a root is used, or counted with the reason why not."""

import pytest
import twins

from datamodules.components.layouts import walk
from datamodules.folder import Folder
from datamodules.mvtec_ad import MVTecAD
from datamodules.visa import VisA


def test_every_reason(twin):
    root = twin("mvtec_ad")
    extra = {
        "hidden": [".cache/0.png", "bottle/train/good/._000.png"],
        "not an image format": ["bottle/readme.txt", "bottle/test/good/009.svg", "licence"],
        "mask of no anomalous test image": ["bottle/ground_truth/good/000_mask.png"],
        "in train, but no normal image": ["bottle/train/000.png", "bottle/train/bad/000.png"],
        "in no folder that the layout reads": ["bottle/test/9.png", "thumbnail.png"],
    }
    for name in (name for names in extra.values() for name in names):
        twins.save(twins.image(0), (root / name).with_suffix(".png"))
        (root / name).with_suffix(".png").rename(root / name)
    use = MVTecAD(root, ["bottle"], image_size=16).describe_use()
    others = [path.relative_to(root).as_posix() for path in walk(root / "metal_nut")]
    assert use.ignored == extra | {"of a category that was not chosen": others}
    assert (use.images, use.masks) == (12, 4)
    assert use.images + use.masks + sum(map(len, use.ignored.values())) == len(walk(root))
    assert use.lines()[0] == "used: 12 images and 4 masks"
    assert "ignored, hidden: 2 (.cache/0.png, bottle/train/good/._000.png)" in use.lines()
    assert any(line.endswith(f"and {len(others) - 3} more)") for line in use.lines())


@pytest.mark.parametrize(("kind", "name"), [(MVTecAD, "mvtec_ad"), (VisA, "visa"), (Folder, "folder")])
def test_a_clean_twin_leaves_nothing_out(twin, kind, name):
    root = twin(name)
    data = kind(root, twins.VISA_CATEGORIES if kind is VisA else sorted(p.name for p in root.iterdir()), image_size=16)
    tables = ["candle/image_anno.csv", "pcb1/image_anno.csv"]
    assert data.describe_use().ignored == ({"not an image format": tables} if kind is VisA else {})


def test_a_broken_category_that_was_not_chosen_hides_nothing(twin):
    root = twin("mvtec_ad")
    (root / "metal_nut/test/contamination/000.png").unlink()
    use = MVTecAD(root, ["bottle"], image_size=16).describe_use()
    assert sum(map(len, use.ignored.values())) == len(walk(root / "metal_nut"))


def test_a_list_tells_what_is_used(twin):
    root = twin("meta")
    twins.save(twins.image(0), root / "scans/new.png")
    use = Folder(root, ["part", "scan"], image_size=16).describe_use()
    assert use.ignored == {"not in the list": ["scans/new.png"]}
