"""Shots from a list of numbers or of files, instead of those that the suite samples."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.components.base import AnomalyDataModule
from datamodules.components.roots import plain_path
from datamodules.components.sample import DataError, Sample

#: The list of one category, in the folder of its name.
LIST_FILE = "selected_samples_per_run.txt"
#: Name of the rule of `pick`, for records; that of sampling by names is `SHOT_RULE`.
LIST_RULE = "listed-numbers-v1"
#: Name of the rule by which a list of files is read.
NAMES_RULE = "listed-names-v1"
_LINE = re.compile(r"#(\d+): *(\d+(?: +\d+)*) *")


class ListedShots(AnomalyDataModule):
    """A data set whose shots may come from a list: of files, or of numbers as PromptAD published it.

    A list of files is one file: JSON {category: [path, …]}, or lines "category: path", paths relative to the root; k
    shots are the first k of a category. PromptAD's lists (FuNz-0/PromptAD, datasets/seeds_*) are not shipped:
    `shot_list` names the folder of the user's copy. A list knows one run, so all seeds share its shots.
    """

    @dataclass(kw_only=True)
    class Config:
        """Where shots come from.

        Attributes:
            shot_list: list of files, or folder that holds <category>/selected_samples_per_run.txt; null samples shots
                by name. It counts by its content.
            shot_numbers: what a number of the list means. The released code takes the "position", from 0, in a
                listing that it does not sort (datasets/mvtec.py:24), so it means other images on other disks (its
                issue 34); here the listing is sorted. The numbers look like file "name"s. "agreed" takes a number
                only where both mean the same image: so it is in MVTec AD, whose names count without gaps, and not in
                VisA.
        """

        shot_list: str | None = None
        shot_numbers: Literal["agreed", "name", "position"] = "agreed"

    config: Config

    @property
    def shot_rule(self) -> str:
        if not self.shots or not self.config.shot_list:
            return super().shot_rule
        return NAMES_RULE if plain_path(Path(self.config.shot_list)).is_file() else LIST_RULE

    def sample_shots(self, category: str) -> list[Sample]:
        if not self.shots or not self.config.shot_list:
            return super().sample_shots(category)
        place = plain_path(Path(self.config.shot_list))
        if place.is_file():
            return self._named(read_names(place).get(category, []), category, place)
        file = place / category / LIST_FILE
        lists = read_list(file)
        if self.shots not in lists:
            known = ", ".join(map(str, lists)) or "none"
            raise DataError(f"{file} lists shots for these k: {known}; got k = {self.shots}. {_OWN_SHOTS}")
        normals = self._in_order(self.normals(category))
        return [self._pick(number, normals, file) for number in lists[self.shots]]

    def verify(self) -> None:
        super().verify()
        for category in self.chosen:
            self.sample_shots(category)

    def _named(self, names: list[str], category: str, file: Path) -> list[Sample]:
        """The first `shots` of the files that a list names for a category."""
        normals = {self.relative(sample.image): sample for sample in self.normals(category)}
        if len(names) < self.shots:
            raise DataError(f"{file} lists {len(names)} shots of {category!r}, fewer than {self.shots}. {_OWN_SHOTS}")
        if strange := [name for name in names if name not in normals]:
            raise DataError(
                f"{file} lists {strange[0]!r}, which is no normal training image of {category!r}: paths must be "
                f"relative to {self.root}, such as {min(normals, default='none')}. {_OWN_SHOTS}"
            )
        return [normals[name] for name in names[: self.shots]]

    def _pick(self, number: int, normals: list[Sample], file: Path) -> Sample:
        """The image that a number of `file` means, among all normal training images in the order of their names."""
        reading = self.config.shot_numbers
        at = normals[number : number + 1]
        named = [sample for sample in normals if sample.image.stem.isdecimal() and int(sample.image.stem) == number]
        found = named if reading == "name" else at
        if len(found) != 1 or (reading == "agreed" and named != at):
            names, place = ([self.relative(s.image) for s in samples] or "none" for samples in (named, at))
            raise DataError(
                f"{file} lists {number}, which is no certain image of {len(normals)}: read as a name it is {names}, as "
                f"a position in the sorted listing {place}, and the released code does not sort. {_CHOOSE} {_OWN_SHOTS}"
            )
        return found[0]


def read_list(file: Path) -> dict[int, tuple[int, ...]]:
    """The numbers for each k of a list: lines like "#2: 017 004", which need neither sorting nor nesting.

    Raises:
        DataError: there is no such file, or a line of another form, of another count, with a repetition or a known k.
    """
    if not file.is_file():
        raise DataError(
            f"no list of shots: looked for {file}. shot_list must hold <category>/{LIST_FILE}. {_OWN_SHOTS}"
        )
    lists: dict[int, tuple[int, ...]] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        shots, chosen = (int(match[1]), tuple(map(int, match[2].split()))) if match else (0, ())
        if not chosen or len({*chosen}) != shots or len(chosen) != shots or shots in lists:
            raise DataError(
                f'{file}, line {number}: must be "#k: " and k different numbers, once for each k, got {line!r}.'
            )
        lists[shots] = chosen
    return lists


def read_names(file: Path) -> dict[str, list[str]]:
    """The files of each category in a list of files, in its order.

    Raises:
        DataError: it is neither JSON {category: [path, …]} nor lines "category: path", or names a file twice.
    """
    text = file.read_text(encoding="utf-8-sig")
    try:
        lists = json.loads(text)
    except ValueError:
        lists = {}
        for number, line in enumerate(text.splitlines(), start=1):
            category, colon, name = (part.strip() for part in line.partition(":"))
            if line.strip() and not (colon and category and name):
                raise DataError(f'{file}, line {number}: must be "category: path", got {line!r}.') from None
            if line.strip():
                lists.setdefault(category, []).append(name)
    if not isinstance(lists, dict) or not all(isinstance(names, list) for names in lists.values()):
        raise DataError(f"{file} must be {{category: [path, …]}}, got {text[:60]!r}.")
    for category, names in lists.items():
        if not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
            raise DataError(f"{file}: {category!r} must list different paths, got {names}.")
    return lists


_CHOOSE = "Allowed: shot_numbers=name or shot_numbers=position, which decide it."
_OWN_SHOTS = "shot_list=null samples shots by name."
