"""What a method said of each test image, kept beside its record: the raw score, and the map as the method made it.

From these files, without a GPU, `bench rescore` measures anew, the leaderboard resamples test images, and pages show
maps. One file holds an attempt: tensors `score` (n,) float32, `anomalous` (n,) uint8 and, where maps are kept, `map`
(n, rows, columns) float16 with `least` and `range`, so that least + range · map is the method's map before it was
enlarged and smoothed; the header holds names, categories, contents and that finish.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from benchmark.records.store import Record, write_atomic

SCHEMA = 1


class Predicted(NamedTuple):
    """What one attempt said of n test images, in the order of its data set."""

    names: Sequence[str]  # relative to the root of the data set
    categories: Sequence[str]
    contents: Sequence[str]  # SHA-256 of each file
    anomalous: NDArray[np.bool_]  # (n,) the truth
    scores: NDArray[np.float32]  # (n,) as the method gave them
    maps: NDArray[np.float32] | None  # (n, rows, columns) before `finish`; None where none were kept
    finish: Mapping[str, Any]  # size [h, w] or null, sigma in pixels of that size, align_corners


def path_of(folder: Path, record: Record) -> Path:
    """Where the predictions of an attempt lie, whether they were kept or not."""
    return folder / "cells" / record.cell_id / f"attempt-{record.attempt}.safetensors"


def write(path: Path, predicted: Predicted) -> None:
    """Write the predictions of an attempt, whole or not at all; StoreError if that cannot be done."""
    tensors: dict[str, NDArray[Any]] = {
        "score": predicted.scores.astype(np.float32),
        "anomalous": predicted.anomalous.astype(np.uint8),
    }
    if (maps := predicted.maps) is not None:
        least, most = (float(end) for end in (maps.min(), maps.max())) if maps.size else (0.0, 0.0)
        width = most - least
        tensors["map"] = ((maps - least) / (width or 1.0)).astype(np.float16)
        tensors["least"], tensors["range"] = np.array([least]), np.array([width])
    told = {"names": [*predicted.names], "categories": [*predicted.categories], "contents": [*predicted.contents]}
    header = {"schema": str(SCHEMA), "told": json.dumps(told | {"finish": dict(predicted.finish)})}
    write_atomic(path, save(tensors, header))


def read(path: Path) -> Predicted | None:
    """The predictions of an attempt; None where none were kept, or the file is none of this suite's."""
    try:
        with safe_open(path, "numpy") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
        told = json.loads(header["told"])
        maps = None
        if "map" in tensors:
            least, width = float(tensors["least"][0]), float(tensors["range"][0])
            maps = (least + width * tensors["map"].astype(np.float64)).astype(np.float32)
        found = Predicted(
            told["names"],
            told["categories"],
            told["contents"],
            tensors["anomalous"].astype(bool),
            tensors["score"],
            maps,
            told["finish"],
        )
        sizes = {len(each) for each in found[:5]} | ({len(maps)} if maps is not None else set())
        if header["schema"] != str(SCHEMA) or len(sizes) != 1:
            return None
    except (OSError, SafetensorError, KeyError, ValueError, TypeError):
        return None
    return found
