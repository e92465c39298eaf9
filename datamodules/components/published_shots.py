"""Shots from a published list of numbers, instead of those that the suite samples."""

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
_LINE = re.compile(r"#(\d+): *(\d+(?: +\d+)*) *")


class ListedShots(AnomalyDataModule):
    """A data set whose shots may come from a list as PromptAD published it (FuNz-0/PromptAD, datasets/seeds_*).

    The list is not shipped: `shot_list` names the folder of the user's copy. It knows one run, so all seeds share its
    shots.
    """

    @dataclass(kw_only=True)
    class Config:
        """Where shots come from.

        Attributes:
            shot_list: folder that holds <category>/selected_samples_per_run.txt; None samples shots by name. A record
                knows the lists by this path alone, so put others elsewhere.
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
        return LIST_RULE if self.shots and self.config.shot_list else super().shot_rule

    def sample_shots(self, category: str) -> list[Sample]:
        if not self.shots or not self.config.shot_list:
            return super().sample_shots(category)
        file = plain_path(Path(self.config.shot_list)) / category / LIST_FILE
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


_CHOOSE = "Allowed: shot_numbers=name or shot_numbers=position, which decide it."
_OWN_SHOTS = "shot_list=null samples shots by name."
