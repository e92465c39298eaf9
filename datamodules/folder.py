"""Your own images: MVTec layout with any names, or a meta.json as AnomalyCLIP's family of code reads it."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from datamodules.components.base import AnomalyDataModule
from datamodules.components.checks import check_root
from datamodules.components.layouts import describe, is_mvtec_category, list_folders, mvtec_normals, mvtec_tests
from datamodules.components.roots import plain_path
from datamodules.components.sample import DataError, Sample

#: Names that a folder of normal images may have in MVTec layout.
NORMAL = ("good", "ok")
META = "meta.json"


class MetaEntry(NamedTuple):
    """What a meta.json says of one image; the mask is "" if there is none."""

    image: str
    mask: str
    specie: str
    anomalous: bool


class Folder(AnomalyDataModule):
    """Any data in one of two layouts; "auto" takes meta.json where there is one.

    mvtec: every folder below the root with `train` or `test` is a category, or the root is the only one and
    its folder's name the category. Normal images lie in folders called good or ok, no other name is normal.
    A category without the folder `ground_truth` has no masks; with it, every anomalous image needs one.

    meta: {"train" | "test": {category: [{img_path, mask_path, specie_name, anomaly, …}]}}, paths relative to the
    root. Of the training entries the normal ones are used; a category may have none if no shots are sampled. It has
    masks if any anomalous test entry has one; then each needs one. Masks of normal entries are not read.
    """

    categories = ()
    source = "your own images"
    licence = "yours"
    layout = "<root>[/<category>]/{train/good, test/{good,<defect>}, ground_truth/<defect>} or <root>/meta.json"
    folder_name = "folder"

    @dataclass(kw_only=True)
    class Config:
        """How the root is read.

        Attributes:
            layout: layout of the files; "auto" takes "meta" where there is a meta.json, else "mvtec".
        """

        layout: Literal["auto", "mvtec", "meta"] = "auto"

    @classmethod
    def find_categories(cls, root: Path, config: Any = None) -> tuple[str, ...]:
        """The categories below a root, sorted.

        Raises:
            DataError: there are none, or meta.json is missing or wrong.
        """
        root = plain_path(root)
        check_root(root, cls.layout, cls.source)
        if _is_meta(root, config):
            names = sorted({*_splits(root)["train"], *_splits(root)["test"]})
        elif is_mvtec_category(root):
            names = [root.name]
        else:
            names = [folder.name for folder in list_folders(root) if is_mvtec_category(folder)]
        if not names:
            raise DataError(f"no category below {root}: expected {cls.layout}. {describe(root)}")
        return tuple(names)

    def normals(self, category: str) -> list[Sample]:
        if self._meta:
            return [self._sample(e, category) for e in _entries(self.root, "train", category) if not e.anomalous]
        return mvtec_normals(self._parent, category, NORMAL)

    def tests(self, category: str) -> list[Sample]:
        masks = self.masks_known(category)
        if self._meta:
            return [self._sample(entry, category, masks) for entry in _entries(self.root, "test", category)]
        return mvtec_tests(self._parent, category, NORMAL, masks=masks)

    def masks_known(self, category: str) -> bool:
        if self._meta:
            return any(entry.anomalous and entry.mask for entry in _entries(self.root, "test", category))
        return (self._parent / category / "ground_truth").is_dir()

    @property
    def _meta(self) -> bool:
        return _is_meta(self.root, self.config)

    @property
    def _parent(self) -> Path:
        """The folder of the category folders."""
        return self.root.parent if is_mvtec_category(self.root) else self.root

    def _sample(self, entry: MetaEntry, category: str, masks: bool = False) -> Sample:
        image = _file(self.root, entry.image)
        if not entry.anomalous:
            return Sample(image, category)
        mask = _file(self.root, entry.mask) if masks and entry.mask else None
        return Sample(image, category, True, mask, entry.specie)


def _is_meta(root: Path, config: Any) -> bool:
    layout = "auto" if config is None else config.layout
    return layout == "meta" or (layout == "auto" and (root / META).is_file())


def _splits(root: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    file = root / META
    if not file.is_file():
        raise DataError(f"no {META}: looked for {file}. {describe(root)}")
    try:
        splits = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}.") from error
    if not isinstance(splits, dict) or not all(isinstance(splits.get(name), dict) for name in ("train", "test")):
        raise DataError(f'{file} must be {{"train": {{category: [entry]}}, "test": {{…}}}}; one of the two is missing.')
    return splits


def _entries(root: Path, split: str, category: str) -> list[MetaEntry]:
    entries = []
    for number, raw in enumerate(_splits(root)[split].get(category, [])):
        try:
            mask = str(raw["mask_path"] or "")
            entry = MetaEntry(str(raw["img_path"]), mask, str(raw["specie_name"]), {0: False, 1: True}[raw["anomaly"]])
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{root / META}, {split}, {category}, entry {number}: needs img_path, mask_path, specie_name and "
                f"anomaly (0 or 1), got {raw!r}."
            ) from error
        entries.append(entry)
    return entries


def _file(root: Path, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{root / META} points to {name!r}: paths must be relative to the root and stay below it.")
    if not (root / path).is_file():
        raise DataError(f"{root / META} points to {root / path}, which is no file.")
    return root / path
