"""What the cells of each row cost. Times differ from run to run, so they stand in a file of their own, `cost.csv`."""

from collections.abc import Iterable

import pandas as pd

from benchmark.records.rows import SETUP
from benchmark.records.store import Record

COST = ("trained_parameters", "fit_s", "images_per_s", "peak_MiB", "features_hit")
COLUMNS = (*COST, "timing")


def cost_table(records: Iterable[Record], setups: pd.DataFrame) -> pd.DataFrame:
    """A line for each setup: the most parameters that a fit trained, seconds of a fit, images a second, peak memory.

    `images_per_s` is the median over cells of what a test does from an image on the device to its score and map, after
    the first batch; reading and metrics are not counted. `features_hit` is the share of passes that the store answered.
    `timing` says under what. Records of before have no parameters and no images per second.

    Args:
        records: behind the leaderboard.
        setups: the leaderboard, of which the columns `SETUP` are read.
    """
    lines = [_line(record) for record in records if record.status == "ok"]
    cells = pd.DataFrame(lines, columns=["setup", "hits", "asked", *COLUMNS])
    groups = cells.groupby("setup", sort=False)
    found = pd.DataFrame(
        {
            "trained_parameters": groups["trained_parameters"].max(),
            "fit_s": groups["fit_s"].mean().round(2),
            "images_per_s": groups["images_per_s"].median().round(1),
            "peak_MiB": groups["peak_MiB"].max(),
            "features_hit": (groups["hits"].sum() / groups["asked"].sum()).round(3),
            "timing": groups["timing"].agg(lambda its: "; ".join(dict.fromkeys(its))),
        }
    )
    keys = setups[setups["kind"] == "all"][list(SETUP)]
    return keys.merge(found.reset_index(), on="setup", how="left")


def _line(record: Record) -> dict[str, object]:
    cost, features = record.cost, record.features or {}
    timing = (
        f"{cost['batch_size']} images a batch, {record.cell.settings.protocol.precision}, {cost['device']}"
        if cost
        else ""
    )
    return {
        "setup": record.cell.setup,
        "trained_parameters": cost.get("trained_parameters"),
        "fit_s": record.seconds.get("fit"),
        "images_per_s": cost.get("images_per_s"),
        "peak_MiB": record.peak_memory_mib,
        "hits": features.get("hits", 0),
        "asked": features.get("hits", 0) + features.get("misses", 0),
        "timing": timing if not cost or cost["warm"] else f"{timing}, the first batch with it",
    }
