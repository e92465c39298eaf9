"""Your own images: folders with any names, a table, or a meta.json as AnomalyCLIP's family of code reads it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.components.checks import check_name, check_root
from datamodules.components.layouts import describe, is_mvtec_category, list_folders
from datamodules.components.listings import META, find_tables, list_categories, read_list
from datamodules.components.own_folders import (
    FolderNames,
    Lists,
    check_folder_names,
    check_said,
    find_flat,
    read_folders,
)
from datamodules.components.published_shots import ListedShots
from datamodules.components.roots import plain_path
from datamodules.components.sample import DataError, Sample


class Folder(ListedShots):
    """Any data in one of four layouts; "auto" takes the first that is there of meta, mvtec, csv, flat.

    meta: {"train" | "test": {category: [{img_path, mask_path, specie_name, anomaly, …}]}}, paths relative to the
    root. Of the training entries the normal ones are used. It has masks if any anomalous test entry has one; then each
    needs one. Masks of normal entries are not read.

    mvtec: every folder below the root with `train` or `test` is a category, or the root is the only one and
    its folder's name the category. Normal images lie in the folders `normal`; every other folder of `test` is a kind
    of anomaly. A category without a folder of masks has none; with it, every anomalous image needs one.

    csv: a table with the columns path and label and perhaps mask, split and category, paths relative to the root.
    Labels are good, ok, normal, 0, false, or bad, anomaly, anomalous, abnormal, defect, ng, 1, true. Normal images
    without a split are divided as `split` says.

    flat: every folder below the root that holds one of the folders `normal` or `abnormal` is a category, or the root.
    anomalib's Folder is this one: normal_dir is `normal`, abnormal_dir `abnormal`, normal_test_dir `normal_test`,
    mask_dir `masks`.

    Images may lie further down in each folder. A category may have no normal training images if no shots are sampled,
    no normal or no anomalous test images; what cannot be measured is then empty.
    """

    categories = ()
    source = "your own images"
    licence = "yours"
    layout = (
        "<root>[/<category>]/{train/good, test/{good,<defect>}, ground_truth/<defect>}, "
        "<root>[/<category>]/{good,<defect>[, masks]}, <root>/*.csv with path and label, or <root>/meta.json"
    )
    folder_name = "folder"

    @dataclass(kw_only=True)
    class Config(ListedShots.Config, FolderNames):
        """How the root is read, with the names of `FolderNames`.

        Attributes:
            layout: layout of the files; "auto" takes the first that is there of "meta", "mvtec", "csv" and "flat".
            table: file name of the table below the root; null takes the only one.
        """

        layout: Literal["auto", "mvtec", "flat", "meta", "csv"] = "auto"
        table: str | None = None

    config: Config

    @classmethod
    def find_categories(cls, root: Path, config: Any = None) -> tuple[str, ...]:
        """The categories below a root, sorted.

        Raises:
            DataError: there are none, a name cannot be used, or a list or a setting is wrong.
        """
        root, config = plain_path(root), config or cls.Config()
        check_root(root, cls.layout, cls.source)
        file = _list_file(root, config)
        _check_used(root, config, file)
        if file:
            names = list_categories(root, file)
        else:
            check_folder_names(config)
            folders = _category_folders(root, config)
            if folders:
                check_said(folders, config)
            names = sorted(folder.name for folder in folders)
        if not names:
            raise DataError(f"no category below {root}: expected {cls.layout}. {describe(root)}")
        for name in names:
            check_name(name, "category", root)
        return tuple(names)

    def normals(self, category: str) -> list[Sample]:
        return self._lists(category).normals

    def tests(self, category: str) -> list[Sample]:
        return self._lists(category).tests

    def masks_known(self, category: str) -> bool:
        return self._lists(category).masks_known

    @property
    def list_files(self) -> tuple[Path, ...]:
        file = _list_file(self.root, self.config)
        return (file,) if file else ()

    def _lists(self, category: str) -> Lists:
        if file := _list_file(self.root, self.config):
            return read_list(self.root, file, category, self.config.split)
        single = [self.root] == _category_folders(self.root, self.config)
        parent = self.root.parent if single else self.root
        split = not _is_flat(self.config) and is_mvtec_category(parent / category)
        return read_folders(parent, category, self.config, split=split)


def _list_file(root: Path, config: Folder.Config) -> Path | None:
    """The list of the data set; None where folders are read."""
    layout = "csv" if config.layout == "auto" and config.table else config.layout
    if layout == "meta" or (layout == "auto" and (root / META).is_file()):
        return root / META
    if _is_flat(config) or layout == "mvtec" or (layout == "auto" and (_mvtec(root) or not find_tables(root))):
        return None
    tables = [root / config.table] if config.table else find_tables(root) or sorted(root.glob("*.csv"))
    if len(tables) != 1:
        raise DataError(
            f"{root} must hold one table (*.csv with the columns path and label) or table= must name it; it holds "
            f"{[table.name for table in tables] or 'none'}. {describe(root)}"
        )
    return tables[0]


def _check_used(root: Path, config: Folder.Config, file: Path | None) -> None:
    """Refuse a setting that the layout which is read does not look at."""
    idle = [] if config.layout in ("auto", "csv") else ["table"]
    if file:
        read, more = (
            file.name,
            ["normal", "abnormal", "normal_test", "masks", *(["split"] if file.name == META else [])],
        )
    elif not _is_flat(config) and _mvtec(root):
        read, more = "folders in train and test", ["normal_test", "split"]
    else:
        read, more = "folders without train and test", ["split"] if config.normal_test else []
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in vars(config).items()}
    if changed := [key for key in (*idle, *more) if plain[key] != getattr(Folder.Config, key)]:
        raise DataError(
            f"{', '.join(changed)} would not be used: {root} is read by {read}. Set layout=… or leave it out."
        )


def _is_flat(config: Folder.Config) -> bool:
    """Whether folders are named from the category's on; with "auto" a path among the names tells so."""
    paths = [name for name in (*config.normal, *config.abnormal, *config.normal_test) if "/" in name]
    if paths and config.layout == "mvtec":
        raise DataError(f"layout=mvtec takes the names of folders in train and test, got the path {paths[0]!r}.")
    return config.layout == "flat" or (config.layout == "auto" and bool(paths))


def _mvtec(root: Path) -> list[Path]:
    return [root] if is_mvtec_category(root) else [path for path in list_folders(root) if is_mvtec_category(path)]


def _category_folders(root: Path, config: Folder.Config) -> list[Path]:
    if _is_flat(config):
        return find_flat(root, config)
    return _mvtec(root) or (find_flat(root, config) if config.layout == "auto" else [])
