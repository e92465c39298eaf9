"""Where a data set lies: answered without importing torch, so that a plan is refused in a second."""

import os
from collections.abc import Mapping
from pathlib import Path

import platformdirs

from datamodules.components.sample import DataError

#: Environment variable of the folder that holds one folder per data set.
DATA_VARIABLE = "BENCH_DATA"
#: Environment variable of the folder for what can be made again.
CACHE_VARIABLE = "BENCH_CACHE"


def cache_folder() -> Path:
    """`$BENCH_CACHE`, or the user's cache."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser() if given else platformdirs.user_cache_path("clip-ad-bench")


def data_folder() -> Path | None:
    """`$BENCH_DATA`, the folder that holds one folder per data set; None where it is not set."""
    given = os.environ.get(DATA_VARIABLE)
    return plain_path(Path(given)) if given else None


def plain_path(path: Path) -> Path:
    """The absolute path without `~`, `.` and `..`; links are kept, since a category may be named by one."""
    return Path(os.path.normpath(path.expanduser().absolute()))


def find_root(
    name: str, folder_name: str, source: str, explicit: str | None = None, environment: Mapping[str, str] = os.environ
) -> Path:
    """The folder of a data set that needs one.

    Args:
        name: key of the data set, for the message.
        folder_name: its folder below the data variable.
        source: where the data can be had, for the message.
        explicit: the path that the configuration names; None or "" asks the environment.
        environment: variables of the process.

    Returns:
        The explicit path, else `$BENCH_DATA/<folder_name>`; an existing folder.

    Raises:
        DataError: neither is given, or the one that counts is no folder.
    """
    base = environment.get(DATA_VARIABLE)
    if explicit:
        looked, path = f"root={explicit}", plain_path(Path(explicit))
    elif base:
        looked, path = f"${DATA_VARIABLE}/{folder_name}", plain_path(Path(base) / folder_name)
    else:
        looked, path = f"neither `root` nor ${DATA_VARIABLE} is set", None
    if path is not None and path.is_dir():
        return path

    place = f"looked at {path} ({looked}), which is no folder" if path else looked
    raise DataError(
        f"no data for {name!r}: {place}. Set dataset.{name}.root to its folder, or set the "
        f"environment variable {DATA_VARIABLE} to a folder that holds {folder_name}/. The data: {source}"
    )
