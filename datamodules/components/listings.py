"""Data sets that a file lists: a meta.json as AnomalyCLIP's family of code reads it, or a table (CSV)."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datamodules.components.layouts import describe
from datamodules.components.own_folders import Lists, divide
from datamodules.components.sample import DataError, Sample

META = "meta.json"
#: Words of the column `label`, whatever their case.
NORMAL_LABELS = ("good", "ok", "normal", "0", "false")
ANOMALOUS_LABELS = ("bad", "anomaly", "anomalous", "abnormal", "defect", "ng", "1", "true")
SPLITS = ("train", "test")


class Listed(NamedTuple):
    """What a list says of one image: paths relative to the root, "" where it says nothing."""

    where: str  # for messages
    category: str
    split: str  # "" for a normal image of which nothing is said
    image: str
    mask: str
    kind: str
    anomalous: bool


def read_list(root: Path, file: Path, category: str, share: float) -> Lists:
    """The samples of one category. Anomalous images of the training part are left out.

    There are masks if any anomalous test image has one; masks of normal images are left out.

    Args:
        root: what paths are relative to.
        file: meta.json or a table.
        category: a name of `list_categories`.
        share: part of the normal images that is for training where the list names no split.

    Raises:
        DataError: the list is wrong, or a file that it names is missing.
    """
    rows = [row for row in _rows(root, file) if row.category == category]
    masks = any(row.anomalous and row.mask for row in rows if row.split != "train")
    normal, tests = (
        [_sample(root, row, masks) for row in rows if row.split == split and not (split == "train" and row.anomalous)]
        for split in SPLITS
    )
    training, tested = divide([_sample(root, row, masks) for row in rows if not row.split], share)
    return Lists([*normal, *training], [*tests, *tested], masks)


def list_categories(root: Path, file: Path) -> list[str]:
    """The categories of a list, sorted; DataError if the list is wrong."""
    if file.suffix.lower() == ".json":
        splits = _splits(root, file)
        return sorted({*splits["train"], *splits["test"]})
    return sorted({row.category for row in _rows(root, file)})


def is_table(file: Path) -> bool:
    """Whether a file is a table with the columns path and label."""
    try:
        return {"path", "label"} <= {*_header(file)}
    except (DataError, OSError):
        return False


def _rows(root: Path, file: Path) -> list[Listed]:
    return _meta_rows(root, file) if file.suffix.lower() == ".json" else _table_rows(root, file)


def _splits(root: Path, file: Path) -> dict[str, dict[str, list[dict[str, Any]]]]:
    if not file.is_file():
        raise DataError(f"no {file.name}: looked for {file}. {describe(root)}")
    try:
        splits = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DataError(f"{file} is not JSON: {error}.") from error
    if not isinstance(splits, dict) or not all(isinstance(splits.get(name), dict) for name in SPLITS):
        raise DataError(f'{file} must be {{"train": {{category: [entry]}}, "test": {{…}}}}; one of the two is missing.')
    return splits


def _meta_rows(root: Path, file: Path) -> list[Listed]:
    rows = []
    for split, categories in _splits(root, file).items():
        for category, entries in categories.items() if split in SPLITS else ():
            for number, raw in enumerate(entries):
                where = f"{file}, {split}, {category}, entry {number}"
                try:
                    mask, anomalous = str(raw["mask_path"] or ""), {0: False, 1: True}[raw["anomaly"]]
                    kind = str(raw["specie_name"])
                    rows.append(Listed(where, category, split, str(raw["img_path"]), mask, kind, anomalous))
                except (KeyError, TypeError) as error:
                    raise DataError(
                        f"{where}: needs img_path, mask_path, specie_name and anomaly (0 or 1), got {raw!r}."
                    ) from error
    return rows


def _header(file: Path) -> list[str]:
    with file.open(newline="", encoding="utf-8-sig") as lines:
        try:
            return [name.strip().casefold() for name in next(csv.reader(lines), [])]
        except (UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{file} is no comma-separated text in UTF-8: {error}.") from error


def _table_rows(root: Path, file: Path) -> list[Listed]:
    """The rows of a table with the columns path and label, and perhaps mask, split and category."""
    if not file.is_file():
        raise DataError(f"no table: looked for {file}. {describe(root)}")
    header = _header(file)
    if missing := [column for column in ("path", "label") if column not in header]:
        raise DataError(
            f"{file} lacks the columns {missing}: needs path and label and may have mask, split and category, "
            f"separated by commas; has {header}."
        )
    rows: list[Listed] = []
    first: dict[str, str] = {}
    with file.open(newline="", encoding="utf-8-sig") as lines:
        for number, values in enumerate(csv.reader(lines), start=1):
            if number == 1 or not any(value.strip() for value in values):
                continue
            row = _table_row(f"{file}, line {number}", dict(zip(header, map(str.strip, values), strict=False)), root)
            path = PurePosixPath(row.image).as_posix()
            if path in first:
                raise DataError(f"{row.where}: {row.image} is listed twice, first at {first[path]}.")
            first[path] = row.where
            rows.append(row)
    return rows


def _table_row(where: str, row: dict[str, str], root: Path) -> Listed:
    label, split = row.get("label", "").casefold(), row.get("split", "").casefold()
    if label not in NORMAL_LABELS + ANOMALOUS_LABELS:
        raise DataError(
            f"{where}: label must be one of {', '.join(NORMAL_LABELS)} (normal) or {', '.join(ANOMALOUS_LABELS)} "
            f"(anomalous), got {row.get('label', '')!r}."
        )
    if split not in ("", *SPLITS):
        raise DataError(f"{where}: split must be train, test or empty, got {row['split']!r}.")
    split = split or ("test" if label in ANOMALOUS_LABELS else "")
    category = row.get("category", root.name)
    return Listed(
        where, category, split, row.get("path", ""), row.get("mask", ""), "anomaly", label in ANOMALOUS_LABELS
    )


def _sample(root: Path, row: Listed, masks: bool) -> Sample:
    image = _file(root, row.image, row.where)
    if not row.anomalous:
        return Sample(image, row.category)
    mask = _file(root, row.mask, row.where) if masks and row.mask else None
    return Sample(image, row.category, True, mask, row.kind)


def _file(root: Path, name: str, where: str) -> Path:
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise DataError(f"{where} points to {name!r}: paths must be relative to the root and stay below it.")
    if not (root / path).is_file():
        raise DataError(f"{where} points to {root / path}, which is no file.")
    return root / path


def find_tables(root: Path) -> Sequence[Path]:
    """The files in a root that are tables, sorted."""
    return [path for path in sorted(root.glob("*.csv")) if is_table(path)]
