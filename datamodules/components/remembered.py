"""Answers to questions on folders, kept between runs until something in the folders is touched; loads no torch.

To answer takes the class of a data set, and with it torch; to see that nothing was touched takes a look at the times.
"""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datamodules.components.content import QUIET, entries
from datamodules.components.roots import cache_folder

FOLDER = "answers"


class Remembered:
    """What was found out in some folders, by name; worth nothing but time, as the digests of files are."""

    def __init__(self, question: str) -> None:
        """Read what is kept, unless the folders are not as they were.

        Args:
            question: all that the answers depend on besides the folders, such as settings and code.
        """
        self._path = cache_folder() / FOLDER / f"{hashlib.sha256(question.encode()).hexdigest()[:32]}.json"
        self._state: list[Any] | None = None  # of the folders, None where it cannot be trusted
        self.answers: dict[str, Any] = {}
        with suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            if kept.pop("proof") == _proof(kept) and kept["state"] == _state([Path(name) for name, _ in kept["state"]]):
                self._state, self.answers = kept["state"], kept["answers"]

    def look_at(self, folders: Sequence[Path]) -> None:
        """Say which folders the next answers come from, before they are sought."""
        with suppress(OSError):
            state = _state(folders)
            if state != self._state:
                self._state, self.answers = state, {}

    def keep(self, name: str, answer: Any) -> None:
        """Add an answer, plain data."""
        self.answers[name] = answer
        if self._state is None:
            return
        kept = {"state": self._state, "answers": self.answers}
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with suppress(OSError):  # nothing is lost but time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(kept | {"proof": _proof(kept)}), encoding="utf-8")
            partial.replace(self._path)


def _state(folders: Sequence[Path]) -> list[Any] | None:
    """Each folder with a hash of the names and stamps of all below it; None where one was touched a moment ago."""
    state, before = [], time.time_ns() - QUIET
    for folder in folders:
        total = hashlib.sha256()
        for name, found in sorted(entries(folder)):
            if max(found.st_mtime_ns, found.st_ctime_ns) > before:
                return None
            total.update(b"%s\0%d %d %d %d\n" % (name, *_stamp(found, is_folder=name.endswith(b"/"))))
        state.append([str(folder), total.hexdigest()])
    return state


def _stamp(found: os.stat_result, *, is_folder: bool) -> tuple[int, int, int, int]:
    return 0 if is_folder else found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _proof(kept: dict[str, Any]) -> str:
    """Shows what the disk has altered."""
    return hashlib.blake2b(json.dumps(kept, sort_keys=True).encode(), digest_size=8).hexdigest()
