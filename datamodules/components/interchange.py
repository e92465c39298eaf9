"""A data set as other code reads it: a meta.json, or folders of links."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.components.base import AnomalyDataModule
from datamodules.components.checks import check_name
from datamodules.components.listings import META
from datamodules.components.own_folders import FolderNames
from datamodules.components.sample import DataError, Sample


def write_meta(data: AnomalyDataModule, root: Path) -> Path:
    """Write the chosen categories as AnomalyCLIP's family of code reads them.

    Args:
        data: images below `root`.
        root: folder that the paths are relative to, and that gets the file.

    Returns:
        The new file, `root`/meta.json: {"train" | "test": {category: [{img_path, mask_path, cls_name, specie_name,
        anomaly}]}}, images by name; mask_path is "" where there is none.

    Raises:
        DataError: there is such a file, or an image does not lie below `root`.
    """
    file = root / META
    if file.exists():
        raise DataError(f"{file} exists already. Move it away first.")
    splits = {"train": data.normals, "test": data.tests}
    meta = {
        split: {category: [_entry(sample, root) for sample in sorted(samples(category))] for category in data.chosen}
        for split, samples in splits.items()
    }
    file.write_text(json.dumps(meta, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def _entry(sample: Sample, root: Path) -> dict[str, Any]:
    return {
        "img_path": _below(sample.image, root),
        "mask_path": _below(sample.mask, root) if sample.mask else "",
        "cls_name": sample.category,
        "specie_name": sample.defect_type,
        "anomaly": int(sample.anomalous),
    }


def _below(path: Path, root: Path) -> str:
    if not path.is_relative_to(root):
        raise DataError(f"{path} does not lie below {root}, so a {META} there cannot name it.")
    return path.relative_to(root).as_posix()


def export_folder(data: AnomalyDataModule, target: Path) -> Path:
    """Lay the chosen categories out in MVTec layout, by links to the files; nothing is copied.

    anomalib's Folder reads a category with root=`target`/CATEGORY, normal_dir=train/good, normal_test_dir=test/good,
    abnormal_dir=[test/KIND, …] and mask_dir=[ground_truth/KIND, …]. It pairs masks by their position among the sorted
    names, so each mask bears the very stem of its image.

    Args:
        data: any data set.
        target: folder that is not there yet, or is empty.

    Returns:
        `target`.

    Raises:
        DataError: `target` is not empty, a kind of anomaly cannot name a folder, or two masks would bear one name.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target} must be a new or an empty folder.")
    for category in data.chosen:
        folder, tests = target / category, data.tests(category)
        _link(data.normals(category), folder / "train" / "good")
        _link([sample for sample in tests if not sample.anomalous], folder / "test" / "good")
        for kind in sorted({sample.defect_type for sample in tests if sample.anomalous}):
            check_name(kind, "kind of anomaly", data.root)
            if kind.casefold() in FolderNames.normal:
                raise DataError(
                    f"{kind!r} is the kind of an anomalous image of {category!r}, but a name of normal ones."
                )
            samples = [sample for sample in tests if sample.anomalous and sample.defect_type == kind]
            _link(samples, folder / "test" / kind, folder / "ground_truth" / kind)
    return target


def _link(samples: Sequence[Sample], images: Path, masks: Path | None = None) -> None:
    """Links to images by their names below the deepest folder of all, and to their masks by the same names."""
    if not samples:
        return
    source = Path(os.path.commonpath([sample.image.parent for sample in samples]))
    for sample in samples:
        name = sample.image.relative_to(source)
        _make_link(images / name, sample.image)
        if masks and sample.mask:
            _make_link(masks / name.with_suffix(sample.mask.suffix), sample.mask)


def _make_link(link: Path, file: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    try:
        link.symlink_to(file.absolute())
    except FileExistsError as error:
        raise DataError(f"{file} shares its stem with {link.readlink()}, so {link} cannot stand for both.") from error
