"""Proves a data set on disk: numbers against its publication, every pixel read, pairs, duplicates by content."""

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import NamedTuple

from datamodules.components.base import AnomalyDataModule
from datamodules.components.checks import check_sample
from datamodules.components.content import file_digest
from datamodules.components.decoding import open_image
from datamodules.components.sample import DataError, Sample

BATCH = 256  # samples that are read at a time: a set of any size takes little memory


class Finding(NamedTuple):
    """One thing that was looked at."""

    category: str
    text: str
    wrong: bool = True  # False: worth saying, and no fault


class Counted(NamedTuple):
    """Images of one category."""

    train: int
    normal: int
    anomalous: int
    masks: int


def count(data: AnomalyDataModule, category: str) -> Counted:
    """What is there of a category; DataError where its lists cannot be made."""
    normals, tests = data.normals(category), data.tests(category)
    anomalous = [sample for sample in tests if sample.anomalous]
    masks = sum(sample.mask is not None for sample in anomalous)
    return Counted(len(normals), len(tests) - len(anomalous), len(anomalous), masks)


def verify(
    data: AnomalyDataModule, published: Mapping[str, tuple[int, int, int]], *, confirmed: bool
) -> Iterator[Finding]:
    """Look at everything of the chosen categories.

    Args:
        data: the set.
        published: by category, the numbers of normal training, normal test and anomalous test images.
        confirmed: whether these were found in a file; if they were only recalled, a difference is no fault.

    Yields:
        what differs, one finding each; nothing where all is well.
    """
    listed = []
    for category in data.chosen:
        try:
            found = count(data, category)
        except DataError as error:
            yield Finding(category, str(error))
            continue
        listed.append(category)
        if category in published and found[:3] != tuple(published[category]):
            words = f"{_in_words(found[:3])}; published are {_in_words(published[category])}"
            yield Finding(category, words if confirmed else f"{words} (unconfirmed)", wrong=confirmed)
        yield from _files(data, category)
    yield from _duplicates(data, listed)


def _in_words(counts: Iterable[int]) -> str:
    return "{} train, {} normal, {} anomalous".format(*counts)


def _files(data: AnomalyDataModule, category: str) -> Iterator[Finding]:
    """Samples of which some file cannot be read, or whose mask does not fit."""
    known = data.masks_known(category)
    samples = chain(data.normals(category), data.tests(category))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for part in _batches(samples):
            for problem in threads.map(lambda sample: _problem(sample, masks_known=known), part):
                if problem:
                    yield Finding(category, problem)


def _problem(sample: Sample, *, masks_known: bool) -> str:
    """What is wrong with the files of a sample; "" if nothing is."""
    try:
        check_sample(sample, masks_known=masks_known)
        with open_image(sample.image) as image:
            image.load()
    except DataError as error:
        return str(error)
    return ""


def _duplicates(data: AnomalyDataModule, categories: Iterable[str]) -> Iterator[Finding]:
    """Images with the same bytes; a test image that is also a training image is a leak."""
    first: dict[str, tuple[str, str]] = {}  # digest → split and name
    for category in categories:
        for split, samples in (("train", data.normals(category)), ("test", data.tests(category))):
            for sample in samples:
                name = data.relative(sample.image)
                try:
                    digest = file_digest(sample.image)
                except DataError:
                    continue  # said already
                other_split, other = first.setdefault(digest, (split, name))
                if other != name:
                    known = name in data.known_duplicates or other in data.known_duplicates
                    words = f"{name} ({split}) has the bytes of {other} ({other_split})"
                    leak = split != other_split
                    yield Finding(category, f"{words}, as is known" if known else words, wrong=leak and not known)


def _batches(samples: Iterable[Sample]) -> Iterator[tuple[Sample, ...]]:
    each = iter(samples)
    while part := tuple(islice(each, BATCH)):
        yield part
