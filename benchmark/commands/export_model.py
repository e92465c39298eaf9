"""`bench export --record R`: the method of a record as files that run without this package."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from torch import Tensor

from benchmark.commands.columns import plain
from benchmark.execution.content import Contents
from benchmark.execution.data import open_data, target
from benchmark.execution.exporting import TOLERANCE, Exported, export, largest_difference
from benchmark.execution.fitting import quiet
from benchmark.execution.program import INPUT, OUTPUTS, ExportError, Judge, check_fixed
from benchmark.execution.revive import revive
from benchmark.execution.run_cell import loading
from benchmark.records import predictions
from benchmark.records.finding import find_record
from benchmark.records.store import Record, StoreError
from benchmark.request import registry
from benchmark.request.cell import Cell, differences
from benchmark.request.registry import ConfigError, unknown
from datamodules.components.base import AnomalyDataModule
from datamodules.components.reading import read_image
from methods.components.base import Method

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
DONE, PARTLY = 0, 1
ABOUT, UNFINISHED = "model.json", ".tmp-export-"
N_REAL = 4  # test images on which equality is proven
READING = (
    "the first frame, turned as EXIF says, RGB, 16-bit grey divided by 257; resized to a square with Pillow's "
    "BICUBIC whatever its aspect ratio; divided by 255; channels first. Mean and deviation are part of the model"
)


class Fitted(NamedTuple):
    """The method of a record, and the data that it was tested on."""

    method: Method  # on the CPU
    data: AnomalyDataModule
    changed: list[str]  # what is otherwise since the record and may or may not change its scores, in words
    remarks: list[str]


class Real(NamedTuple):
    """Test images of the record."""

    names: list[str]  # relative to the root of the data set
    images: Tensor  # (n, 3, S, S) in [0, 1]


def export_model(path: Path, output: Path | None, category: str | None, batch: int, console: Console) -> int:
    """Write the method of a record to a folder, `output` or one below "exported" of its results folder.

    Returns:
        0, or 1 where one of the files could not be proven and was not written.
    """
    _check_packages()
    folder, record = find_record(path)
    _check_installed(record.cell)
    chosen = choose_category(record.cell, category)
    name = record.cell_id + (f"-{chosen}" if record.cell.joint else "")
    quiet()
    with _whole_or_not_at_all(output or folder / "exported" / name) as (place, partial):
        fitted = fitted_method(record, folder)
        judge, real = Judge(fitted.method, chosen), real_images(fitted.data, chosen)
        side = fitted.data.image_size
        check_fixed(judge, torch.rand(1, 3, side, side))
        recorded = check_recorded(judge, real, record, folder, fitted.changed)
        exported = export(judge, real.images, batch, partial)
        for remark in fitted.remarks:
            console.print(f"note: {plain(remark)}", markup=False, highlight=False, soft_wrap=True)
        about = describe(record, fitted, chosen, batch, exported, real.names, recorded)
        (partial / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    for file, far_by in exported.proven.items():
        far = ", ".join(f"{what} {value:.1e}" for what, value in far_by.items())
        console.print(plain(f"{place / file}: equal to the method, largest difference: {far}"), soft_wrap=True)
    for file, reason in exported.refused.items():
        console.print(plain(f"{file} was not written: {reason}."), soft_wrap=True)
    return PARTLY if exported.refused else DONE


def _check_packages() -> None:
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(
            f"bench export --record needs the package {', '.join(missing)}: pip install 'clip-ad-bench[export]'."
        )


def _check_installed(cell: Cell) -> None:
    for kind, names in (("method", (cell.method,)), ("dataset", cell.datasets)):
        for name in names:
            if why := registry.why_broken(kind, name):
                raise ConfigError(f"the {kind} {name} of this record is not installed: {why}")


def fitted_method(record: Record, folder: Path) -> Fitted:
    """What `revive` makes of a record, and its data; DataError if these are not where they were."""
    revived = revive(folder, record, "auto", None)
    cell, backbone = revived.cell, revived.method.backbone
    data = open_data(target(cell), backbone.image_size, **loading(cell))
    changed = differences(record.content, Contents({}).of(cell))
    backbone.cpu()
    return Fitted(revived.method.cpu(), data, changed, revived.remarks)


def choose_category(cell: Cell, asked: str | None) -> str:
    """The category that is exported, the record's own where it has one alone."""
    if asked is not None and asked not in cell.categories:
        raise unknown("category of this record", asked, cell.categories)
    if asked is None and len(cell.categories) > 1:
        raise ConfigError(f"this record is of several categories: say --category {' | '.join(cell.categories)}.")
    return asked or cell.categories[0]


@contextmanager
def _whole_or_not_at_all(place: Path) -> Iterator[tuple[Path, Path]]:
    """A folder and one inside it; what the second holds at the end replaces what the first held of an export."""
    made = [folder for folder in (place, *place.parents) if not folder.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
        partial = tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=place)
    except OSError as error:
        raise StoreError(f"cannot write to {place}: {error.strerror or error}. Choose another --output.") from error
    try:
        with partial as inside:
            yield place, Path(inside)
            for old in place.glob("model.*"):
                old.unlink()
            for left in place.glob(f"{UNFINISHED}*"):  # by an export that was killed
                if left != Path(inside):
                    shutil.rmtree(left)
            for new in Path(inside).iterdir():
                new.replace(place / new.name)
    except OSError as error:
        raise StoreError(f"cannot write to {place}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):  # those that hold something stay
            for folder in made:
                folder.rmdir()


def real_images(data: AnomalyDataModule, category: str) -> Real:
    """Up to `N_REAL` test images of a category, spread over them all."""
    samples = [sample for sample in data.test_samples if sample.category == category]
    chosen = [samples[place * len(samples) // N_REAL] for place in range(N_REAL)] if samples else []
    chosen = list(dict.fromkeys(chosen))
    images = [read_image(sample.image, data.image_size) for sample in chosen]
    empty = torch.empty(0, 3, data.image_size, data.image_size)
    return Real([data.relative(sample.image) for sample in chosen], torch.stack(images) if images else empty)


def check_recorded(judge: Judge, real: Real, record: Record, folder: Path, changed: list[str]) -> float | None:
    """The largest difference to the scores that the record's run kept of these images; None where it kept none.

    Raises:
        ExportError: the method that was fitted anew is another one, or it may be and nothing was kept to tell.
    """
    kept = predictions.read(predictions.path_of(folder, record), with_maps=False)
    since = f" Since then changed: {'; '.join(changed)}." if changed else ""
    scores = dict(zip(kept.names, kept.scores.tolist(), strict=True)) if kept else {}
    if not scores.keys() >= {*real.names} or not real.names:
        if changed:
            raise ExportError(
                f"whether {record.cell_id} still says what its record tells is unknown, for no predictions of these "
                f"images were kept.{since} The same `bench run` measures it anew."
            )
        return None
    with torch.no_grad():
        now = torch.cat([judge(image)[0] for image in real.images.split(1)])
    difference = largest_difference(now, torch.tensor([scores[name] for name in real.names]))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{record.cell_id}, fitted as its record says, says other scores than were recorded: they differ by up to "
            f"{difference:.2g}, allowed is {TOLERANCE:g}.{since} The same `bench run` measures it anew."
        )
    return difference


def describe(
    record: Record,
    fitted: Fitted,
    category: str,
    batch: int,
    exported: Exported,
    names: list[str],
    recorded: float | None,
) -> dict[str, Any]:
    """What `model.json` says; docs/export.md explains it."""
    backbone, cell = fitted.method.backbone, record.cell
    side, shape = fitted.data.image_size, exported.map_shape
    shapes = {"score": [batch], "anomaly_map": [batch, *shape]}
    return {
        "record": {"cell_id": record.cell_id, "attempt": record.attempt, "shots_sha256": record.data["shots_sha256"]},
        "method": cell.method_label,
        "category": category,
        "backbone": {
            "label": record.backbone["label"],
            "weights_sha256": record.backbone["weights_sha256"],
            "note": record.backbone["note"],
        },
        "input": {"name": INPUT, "shape": [batch, 3, side, side], "dtype": "float32", "range": [0, 1]},
        "outputs": {name: {"shape": shapes[name], "dtype": "float32"} for name in OUTPUTS},
        "reading": READING,
        "mean": backbone.mean.flatten().tolist(),
        "std": backbone.std.flatten().tolist(),
        "proof": {
            "tolerance": TOLERANCE,
            "images": names,
            "largest_difference": exported.proven,
            "largest_difference_of_recorded_scores": recorded,
        },
        "refused": exported.refused,
        "opset": exported.opset,
        "changed_since_the_record": fitted.changed,
        "versions": {name: version(name) for name in ("clip-ad-bench", "torch", "pillow", *PACKAGES)},
    }
