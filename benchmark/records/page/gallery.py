"""Pictures of the worst misses and the best hits of the rows that compare, from what was kept of their tests."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmark.records import predictions
from benchmark.records.page.content import GROUP, plain
from benchmark.records.page.images import Images, Picture
from benchmark.records.page.maps import finishing, outlined, overlay
from benchmark.records.store import Record, Store

METHODS = 6  # of a group that are shown, the best first
WORST, BEST = 4, 4  # images of a group
SIDE = 128  # longest side of a thumbnail, px
QUALITY = 60  # of WebP
SPAN = (1.0, 99.9)  # percentiles of a model's maps that the ends of the colours stand for
SAMPLE = 200  # maps, evenly spaced over the test set, in which these are looked for
BUDGET = 2_400_000  # characters of pictures after which no group is added
KEYS = ["category", "name", "content", "anomalous"]  # of a test image
NO_PREDICTIONS = "No pictures: what the methods said of each test image was not kept."


class Shown(NamedTuple):
    """A row of the leaderboard of which pictures are made."""

    place: int  # of the row
    records: Sequence[Record]  # of one seed, those whose predictions were kept
    scores: pd.DataFrame  # category, name, content, anomalous; rank, 1 the most anomalous; of; share that scored lower


def show_images(store: Store, wide: pd.DataFrame, rows: Sequence[Sequence[Record]]) -> dict[str, Any]:
    """The gallery of a page; what goes wrong is said in it and stops nothing.

    Args:
        store: where the records lie.
        wide: the leaderboard.
        rows: the records behind each of its rows.

    Returns:
        "groups", of each the place of its group's first row, the seed, the places of the rows shown, the number of
        those left out, and its pictures as data URIs; "said", what is not shown and why, in sentences.
    """
    groups: list[dict[str, Any]] = []
    said: list[str] = []
    images, room, full = Images(), BUDGET, 0
    for places in _in_turn(wide):
        if room <= 0:
            full += 1
            continue
        try:
            group = _group(store, [found for place in places if (found := _kept(store, place, rows[place]))], images)
        except Exception as error:  # noqa: BLE001  (files and readers of third parties: a picture stops no run)
            line = wide.loc[places[0]]
            said.append(f"No pictures of {line['dataset']}, {line['protocol']}, {line['shots']} shots: {error}")
            continue
        if group:
            room -= sum(len(uri) for picture in group["pictures"] for uri in picture["uris"] if uri)
            groups.append(group)
    if full:
        said.append(f"{full} more comparisons have no pictures here, since the page holds about 3 MB of them at most.")
    return {"groups": groups, "said": said if groups or said else [NO_PREDICTIONS]}


def _in_turn(wide: pd.DataFrame) -> list[list[int]]:
    """The rows of each group of whole data sets: the first group of every data set, then the second ones."""
    whole = wide[(wide["kind"] == "all") & (wide["comparison"] != "")]
    groups = [its for _, its in whole.groupby(list(GROUP), sort=False)]
    datasets = [group["dataset"].iloc[0] for group in groups]
    turns = [datasets[:number].count(dataset) for number, dataset in enumerate(datasets)]
    return [[*groups[number].index] for number in sorted(range(len(groups)), key=turns.__getitem__)]


def _kept(store: Store, place: int, records: Sequence[Record]) -> Shown | None:
    """What was kept of the first seed of a row of which something was."""
    for seed in sorted({record.cell.seed for record in records if record.status == "ok"}):
        own = [record for record in records if record.cell.seed == seed and record.status == "ok"]
        ranked = [(record, table) for record in own if (table := _ranked(store, record)) is not None]
        if ranked:
            kept, tables = zip(*ranked, strict=True)
            return Shown(place, kept, pd.concat(tables, ignore_index=True))
    return None


def _ranked(store: Store, record: Record) -> pd.DataFrame | None:
    """The test images of a record with their ranks; None where nothing was kept of them."""
    predicted = predictions.read(predictions.path_of(store.folder, record))
    if predicted is None:
        return None
    columns = {"category": predicted.categories, "name": predicted.names, "content": predicted.contents}
    table = pd.DataFrame({**columns, "anomalous": predicted.anomalous, "score": predicted.scores})
    scores = table.groupby("category")["score"]
    table["of"] = scores.transform("size")
    table["rank"] = scores.rank(ascending=False, method="min")
    table["share"] = ((scores.rank() - 1) / (table["of"] - 1)).fillna(0.5)  # 0.5: the only image of its category
    return table


def _group(store: Store, shown: Sequence[Shown], images: Images) -> dict[str, Any] | None:
    """The gallery of one group; None where nothing was kept of its rows."""
    if not shown:
        return None
    chosen = shown[:METHODS]
    tables = [its.scores.set_index(KEYS)[["rank", "of", "share"]] for its in chosen]
    picks = _picks(pd.concat([its["share"] for its in tables], axis=1, join="inner").mean(axis=1))
    cells = {name: store.whole(record).cell for record in chosen[0].records for name in record.cell.categories}
    pictures = [images.read(cells[key[0]], key[1], key[2], SIDE) for key, _ in picks]
    drawn = [[_uri(Image.fromarray(picture.pixels)), _truth(picture)] for picture in pictures]
    for its in chosen:
        maps = _maps(store, its, {key[:2]: picture for (key, _), picture in zip(picks, pictures, strict=True)})
        for uris, (key, _) in zip(drawn, picks, strict=True):
            uris.append(maps.get(key[:2]))
    ranks = [[[*map(plain, its.loc[key, ["rank", "of"]])] for its in tables] for key, _ in picks]
    return {
        "row": chosen[0].place,
        "seed": chosen[0].records[0].cell.seed,
        "rows": [its.place for its in chosen],
        "left": len(shown) - len(chosen),
        "pictures": [
            {"category": key[0], "name": key[1], "anomalous": bool(key[3]), "what": what, "ranks": its, "uris": uris}
            for (key, what), its, uris in zip(picks, ranks, drawn, strict=True)
        ],
    }


def _picks(shares: pd.Series) -> list[tuple[tuple[Any, ...], str]]:
    """The images that the methods got most wrong, then the anomalous ones that they were most right about.

    Args:
        shares: of each image the mean share of images of its category that scored lower; the key ends with its label.
    """
    anomalous = shares.index.get_level_values("anomalous").to_numpy(bool)
    wrong = shares.where(~anomalous, 1 - shares).sort_index().sort_values(ascending=False, kind="stable")
    misses = [*wrong.index[:WORST]]
    hits = [key for key in wrong.index[::-1] if key[-1] and key not in misses][:BEST]
    return [*((key, "miss") for key in misses), *((key, "hit") for key in hits)]


def _maps(store: Store, shown: Shown, pictures: Mapping[tuple[Any, ...], Picture]) -> dict[tuple[Any, ...], str]:
    """What a row's method made of each picture, by category and name; none where it makes no maps or none were kept."""
    found = {}
    for record in shown.records:
        own = {key: picture for key, picture in pictures.items() if key[0] in record.cell.categories}
        predicted = predictions.read(predictions.path_of(store.folder, record)) if own else None
        if predicted is None or predicted.maps is None:
            continue
        places = {key: at for at, key in enumerate(zip(predicted.categories, predicted.names, strict=True))}
        some = predicted.maps[:: -(-len(predicted.maps) // SAMPLE)]
        low, high = np.percentile(_finished(some, predicted.finish, next(iter(own.values())).pixels.shape), SPAN)
        for key, picture in own.items():
            values = _finished(predicted.maps[places[key]], predicted.finish, picture.pixels.shape)
            found[key] = _uri(overlay(picture.pixels, ((values - low) / (high - low or 1.0)).clip(0, 1)))
    return found


def _finished(own: NDArray[np.float32], finish: Any, shape: Sequence[int]) -> NDArray[np.float64]:
    """Maps (…, rows, columns) as the test saw them, in the size of a picture of this shape."""
    sizes = finish["size"] or (None, None)
    rows, columns = (
        finishing(shape[axis], own.shape[axis - 2], sizes[axis], float(finish["sigma"]), bool(finish["align_corners"]))
        for axis in (0, 1)
    )
    return np.asarray(rows @ own.astype(np.float64) @ columns.T)


def _truth(picture: Picture) -> str | None:
    return None if picture.marked is None else _uri(outlined(picture.pixels, picture.marked))


def _uri(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
