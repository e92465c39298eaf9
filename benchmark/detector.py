"""A method fitted on a few normal images, which then looks at others: the suite without a benchmark."""

import io
import shutil
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.execution.build import open_backbone
from benchmark.execution.given import to_file, to_pictures
from benchmark.execution.refit import Shots, fit_on, without
from benchmark.execution.revive import find_shots, revive
from benchmark.execution.scoring import Scored, score_images
from benchmark.metrics.false_alarms import Threshold, percentile, threshold
from benchmark.records.finding import find_record
from benchmark.records.heat_maps import Span, heat_map, span_of, stretch
from benchmark.request import registry
from benchmark.request.cell import Cell
from benchmark.request.registry import ConfigError, unknown
from benchmark.request.single import name_category, protocol_of, single_cell
from datamodules.components.content import file_digest
from datamodules.components.decoding import open_image
from datamodules.components.roots import plain_path
from datamodules.components.sample import DataError
from methods.components.base import Method


@dataclass(frozen=True, eq=False)
class Result:
    """What a method says of one image."""

    score: float  # higher is more anomalous; its scale is that of the method
    percentile: float | None  # of the score among the left-out normal images; None unless they were asked for
    measured: NDArray[np.float32]  # (s, s), the map of the whole image as the benchmark measures it
    span: Span  # of the colours, shared by all images of one call
    picture: Path | Image.Image

    @cached_property
    def image(self) -> Image.Image:
        """The image, RGB, as it is shown."""
        return _open(self.picture)

    @property
    def anomaly_map(self) -> NDArray[np.float32]:
        """The map, stretched bilinearly to the size of the image, (height, width)."""
        return stretch(self.measured, self.image.size)

    def show(self) -> Image.Image:
        """The heat map over the image."""
        return heat_map(self.image, self.measured, self.span)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        self.show().save(file := io.BytesIO(), "PNG")
        return file.getvalue()


class Detector:
    """A method on a backbone, for images of one kind of object.

    Attributes:
        cell: the request behind it, all settings resolved.
        remarks: what must be said beside its scores.
    """

    def __init__(
        self,
        method: str,
        *,
        backbone: str = "embedded",
        object_name: str | None = None,
        seed: int = 0,
        device: str = "auto",
        words: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        """Choose a method; nothing is loaded yet.

        Args:
            method: a name of `bench list methods`.
            backbone: a file of configs/backbone, NAME/PRETRAINED of open_clip, hf-hub:ORG/NAME or local-dir:PATH.
            object_name: words for what the images show, which most prompts need.
            seed: of a fit.
            device: "auto", "cpu", "gpu" or "mps".
            words: further `key=value` words of `bench run`, such as "protocol.auxiliary=visa".
            settings: of the method, see `bench show method NAME`.

        Raises:
            ConfigError: a name or a value is wrong, with what is allowed.
        """
        facts = registry.method(method)
        self._category = name_category(facts, object_name)
        self._asked: dict[str, Any] = {"seed": seed, "backbone": backbone, "device": device, "words": words}
        self._asked["settings"] = settings
        self._sees_shots = protocol_of(facts, shots=True) is not None
        self.cell: Cell = single_cell(method, self._category, shots=int(self._sees_shots), **self._asked)
        self.remarks: list[str] = []
        self._words = {self._category: self._category.replace("_", " ")}
        self._shots: Shots = {}
        self._method: Method | None = None
        self._normal: list[float] | None = None
        self.fit_seconds = 0.0

    @classmethod
    def from_record(
        cls,
        record: str | Path,
        *,
        results: str | Path | None = None,
        category: str | None = None,
        backbone: str | None = None,
        device: str = "auto",
    ) -> Self:
        """The method of a cell that `bench run` has measured, as it was after its fit.

        Args:
            record: `DIR/cells/ID/attempt-N.json`, `DIR/cells/ID`, or ID.
            results: DIR, where ID stands alone.
            category: of the images, where the cell has several.
            backbone: where the same weights lie now, if they have moved.
            device: "auto", "cpu", "gpu" or "mps".

        Raises:
            UserError: there is no such record, or what it was made of is gone or has changed.
        """
        folder, found = find_record(record, results)
        chosen = _choose(found.cell, category)
        revived = revive(folder, found, device, backbone)
        self = cls.__new__(cls)
        self.cell, self._method, self._words, self.remarks = revived.cell, revived.method, {**revived.words}, []
        self._category, self._sees_shots, self._normal = chosen, bool(found.cell.shots), None
        self._asked, self._shots, self.fit_seconds = {}, {}, found.seconds.get("fit", 0.0)
        try:
            self._shots = find_shots(found, revived.cell) if found.cell.shots else {}
        except DataError as error:
            self._note(f"No percentiles: {error}")
        for remark in revived.remarks:
            self._note(remark)
        return self

    @property
    def shots(self) -> tuple[Path, ...]:
        """The normal images at hand of the category."""
        return tuple(self._shots.get(self._category, ()))

    @property
    def n_shots(self) -> int:
        """How many these are."""
        return len(self.shots)

    def describe(self) -> dict[str, Any]:
        """What made its scores, as plain data."""
        return {
            "method": self.cell.method_label,
            "object": self._words[self._category],
            "backbone": self.cell.backbone_label,
            "weights_sha256": self.method.backbone.weights_hash,
            "seed": self.cell.seed,
            "shots_seen": self.cell.shots,
            "shots": [str(path) for path in self.shots],
            "leave_one_out": self._normal,
        }

    @property
    def refits(self) -> bool:
        """Whether the method is trained anew for each normal image that `leave_one_out` leaves out."""
        return self._sees_shots and registry.method(self.cell.method).fits_on == "shots"

    def fit(self, shots: Any) -> Self:
        """Fit on normal images: a folder, a path, a PIL image, a tensor (k, 3, H, W) in [0, 1], or a list of these.

        A method that looks at no normal image only compares its scores with theirs.

        Raises:
            DataError: there is none, one cannot be read, or two are the same.
            ConfigError: of a detector of a record that has its shots.
        """
        if not self._asked and self._sees_shots:
            raise ConfigError(f"a detector of a record is fitted already, on the shots of {self.cell.id}.")
        folder = Path(tempfile.mkdtemp(prefix="bench-"))  # of those that are no files yet; it goes with the detector
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        paths = [to_file(each, folder, number) for number, each in enumerate(to_pictures(shots))]
        _check_shots(paths)
        self._shots, self._normal = {self._category: paths}, None
        if not self._asked:
            return self
        self.cell = replace(self.cell, shots=len(paths) if self._sees_shots else 0)
        self._fit()
        return self

    def predict(self, images: Any) -> Any:
        """Score an image: a path, a PIL image or a tensor (3, H, W) in [0, 1] gives a `Result`.

        A folder, a glob, a batch (B, 3, H, W) or a list gives a list of them, in order; folders are sorted by path.

        Raises:
            DataError: there is none, or one cannot be read.
            ConfigError: the method needs shots and has seen none.
        """
        pictures = to_pictures(images)
        if not pictures:
            raise DataError("there is no image to look at: the list is empty.")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            paths = [to_file(each, Path(folder), number) for number, each in enumerate(pictures)]
            scored = self.score_files(paths)
        if scored.errors:
            raise DataError(next(iter(scored.errors.values())))
        span = span_of(scored.maps)
        results = [
            Result(float(score), self.percentile(float(score)), measured, span, picture)
            for score, measured, picture in zip(scored.scores, scored.maps, pictures, strict=True)
        ]
        several = isinstance(images, list | tuple) or getattr(images, "ndim", 3) == 4
        several = several or (isinstance(images, str | Path) and pictures != [plain_path(Path(images))])
        return results if several else results[0]

    def score_files(self, paths: Sequence[Path], told: Callable[[int], None] = lambda done: None) -> Scored:
        """Scores and maps of image files; one that cannot be read has an error instead."""
        return self._score(self.method, paths, told)

    @property
    def method(self) -> Method:
        """The fitted method.

        Raises:
            ConfigError: it needs shots and has seen none.
        """
        if self._method is None:
            self.begin()
        assert self._method is not None
        return self._method

    def begin(self) -> Self:
        """Make a method ready that needs no shots, which the first `predict` does too; one of `fit` forgets them.

        Raises:
            ConfigError: it needs some.
        """
        self.cell = single_cell(self.cell.method, self._category, shots=0, **self._asked)
        self._sees_shots, self._shots, self._normal = False, {}, None
        self._fit()
        return self

    def leave_one_out(self, told: Callable[[int], None] = lambda done: None) -> list[float]:
        """The score of each normal image by the method as if it had not seen that one; kept, so that results have it.

        A method that learns from its shots is fitted anew for each of them. `told` is called after each.

        Raises:
            DataError: there are less than two normal images, or they are gone.
        """
        method = self.method
        if self._normal is None:
            paths = list(self._shots.get(self._category, ()))
            if len(paths) < 2:
                raise DataError(
                    f"to leave one out takes two normal images or more, got {len(paths)}"
                    f"{'; ' + self.remarks[0] if self.remarks and not paths else ''}."
                )
            scores = []
            for place, path in enumerate(paths):
                its = self._without(place) if self._sees_shots else method
                scored = self._score(its, [path], lambda done: None)
                if scored.errors:
                    raise DataError(scored.errors[0])
                scores.append(float(scored.scores[0]))
                told(1)
            self._normal = scores
        return list(self._normal)

    def threshold(self, false_alarm: float) -> Threshold:
        """The score that at most a share of `false_alarm` of normal images exceeds, by `leave_one_out` alone.

        k normal images resolve no rate below 1 / (k + 1): below it the threshold is their highest score, and `promised`
        is the rate that it really promises.

        Raises:
            ConfigError: the rate is not between 0 and 1.
            DataError: as `leave_one_out`.
        """
        check_rate(false_alarm)
        return threshold(self.leave_one_out(), false_alarm)

    def percentile(self, score: float) -> float | None:
        """Percent of the left-out normal images with a lower score; None before `leave_one_out`."""
        return None if self._normal is None else percentile(score, self._normal)

    def _score(self, method: Method, paths: Sequence[Path], told: Callable[[int], None]) -> Scored:
        size, batch = self.cell.settings.protocol.evaluation_size, self.cell.where.trainer.batch_size
        return score_images(method, paths, self._category, size=size, batch_size=batch, told=told)

    def _without(self, place: int) -> Method:
        return without(self.cell, self.method, self._words, self._shots, self._category, place)

    def _fit(self) -> None:
        began = time.perf_counter()
        shots = self._shots if self._sees_shots else {}
        self._method = fit_on(self.cell, open_backbone(self.cell), self._words, shots)
        self.remarks = list(self._method.remarks)
        self.fit_seconds = time.perf_counter() - began

    def _note(self, remark: str) -> None:
        self.remarks.append(remark)
        warnings.warn(remark, stacklevel=3)


def check_rate(false_alarm: float) -> None:
    """ConfigError unless it is a rate of false alarms."""
    if not 0 < false_alarm < 1:
        raise ConfigError(f"a rate of false alarms must lie between 0 and 1; got {false_alarm}.")


def _choose(cell: Cell, category: str | None) -> str:
    if category is None and len(cell.categories) == 1:
        return cell.categories[0]
    if category is None:
        raise ConfigError(
            f"{cell.id} knows {', '.join(cell.categories)}: say which one the images show (--object, or category=)."
        )
    if category not in cell.categories:
        raise unknown(f"category of {cell.id}", category, cell.categories)
    return category


def _check_shots(paths: Sequence[Path]) -> None:
    """Refuse shots that cannot be read or of which two are the same: left out, one would still be there."""
    if not paths:
        raise DataError("there is no normal image to fit on.")
    found: dict[str, Path] = {}
    for path in paths:
        _open(path)
        other = found.setdefault(file_digest(path), path)
        if other is not path:
            raise DataError(f"{other} and {path} are the same image: give each normal image once.")


def _open(picture: Path | Image.Image) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    with open_image(picture) as image:
        return image.convert("RGB")
