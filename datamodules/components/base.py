"""Base class of all datamodules: a subclass says where the files lie, nothing more."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.components.checks import check_category, check_name, check_names, check_root
from datamodules.components.content import file_digest
from datamodules.components.fit_data import FitData
from datamodules.components.order import DealtBatches, InOrder, ShuffledByEpoch
from datamodules.components.pixel_cache import PixelCache
from datamodules.components.reading import SampleImages, UnlabelledImages, collate, collate_unlabelled, read_image
from datamodules.components.resampling import ResampledImages
from datamodules.components.roots import plain_path
from datamodules.components.sample import Batch, DataError, Sample, UnlabelledBatch
from datamodules.components.shots import SHOT_RULE, limit_evenly, sample_shots
from datamodules.components.use import Use, account


class AnomalyDataModule(LightningDataModule, ABC):
    """Some categories of one anomaly-detection data set.

    Class attributes are literals: the registry reads them from the source without importing torch. A subclass
    implements `normals` and `tests`. There is no validation loader: nothing is selected by score.
    """

    #: Keys of the categories in the order of the publication; empty if they are found on disk.
    categories: ClassVar[tuple[str, ...]]
    #: Where the data can be had.
    source: ClassVar[str]
    licence: ClassVar[str]
    #: What is expected below the root, in words.
    layout: ClassVar[str] = "<root>/<category>/{train/good, test/{good,<defect>}, ground_truth/<defect>}"
    #: Its folder below the data variable; of no use where no root is needed.
    folder_name: ClassVar[str] = ""
    #: Which of several splits in circulation this is; a set that knows several has a setting `variant` instead.
    variant: ClassVar[str] = "standard"
    has_masks: ClassVar[bool] = True
    #: False: `locate` says where the images are, and `prepare_data` makes them.
    needs_root: ClassVar[bool] = True
    #: Category to the words that name its object in a prompt, where the key with spaces will not do.
    object_names: ClassVar[dict[str, str]] = {}
    #: Test images, relative to the root, that the publication is known to hold twice: no leak where a shot equals one.
    known_duplicates: ClassVar[tuple[str, ...]] = ()
    #: Every category to "texture" or "object" where a set has both: tables report the two apart.
    kinds: ClassVar[dict[str, str]] = {}
    #: Variant, category, then the published numbers of normal training, normal test and anomalous test images: what a
    #: set on disk is verified against and a run's cost is estimated by; empty where they vary.
    counts: ClassVar[dict[str, dict[str, tuple[int, int, int]]]] = {}
    #: Variants whose `counts` were recalled and not found in any file: a difference to them is no failure.
    unconfirmed: ClassVar[tuple[str, ...]] = ()
    #: Who is to be cited.
    citation: ClassVar[str] = ""
    #: Names of the set elsewhere, for whoever asks for one of them.
    aliases: ClassVar[tuple[str, ...]] = ()
    #: What `bench data prepare` may download: each a {"name": file name, "urls": mirrors in order, "sha256": of it}.
    archives: ClassVar[tuple[dict[str, Any], ...]] = ()
    #: What to fetch, where, and where to put it, where nothing may be downloaded without the user.
    obtain: ClassVar[str] = ""

    @dataclass(kw_only=True)
    class Config:
        """Settings of this data set alone. Fields are literals of plain types or `Literal`."""

    def __init__(
        self,
        root: Path | str | None,
        categories: Sequence[str],
        *,
        image_size: int,
        shots: int = 0,
        seed: int = 0,
        batch_size: int = 8,
        num_workers: int = 0,
        limit: int | None = None,
        cache_gib: float = 0.0,
        config: Any = None,
    ) -> None:
        """Choose categories; no image is read yet.

        Args:
            root: folder of the data set; None only where `needs_root` is False.
            categories: keys, at least one, in the order in which they are tested.
            image_size: side of the square images, pixels.
            shots: normal training images per category, 0 or more.
            seed: of the shots that are sampled and of the order of shuffled loaders.
            batch_size: images per batch.
            num_workers: processes that read; changes no number.
            limit: at most that many test images per category, 1 or more; None for all.
            cache_gib: size in GiB of the cache of decoded images; 0 decodes each one whenever it is read.
            config: an instance of the class's `Config`; None takes its defaults.

        Raises:
            DataError: an unknown or repeated category, no root, or a number out of range.
        """
        super().__init__()
        if shots < 0 or (limit is not None and limit < 1):
            raise DataError(f"shots must be 0 or more and limit 1 or more (or none), got {shots} and {limit}.")
        self.config = type(self).Config() if config is None else config
        self.image_size, self.shots, self.seed, self.limit = image_size, shots, seed, limit
        self.batch_size, self.num_workers, self.cache_gib = batch_size, num_workers, cache_gib
        if root is None:
            if self.needs_root:
                raise DataError(f"{type(self).__name__} needs a root: {self.layout}. The data: {self.source}")
            root = self.locate()
        self.root = plain_path(Path(root))
        self.chosen = check_names(categories, self.find_categories(self.root, self.config))
        for category in self.chosen:
            check_name(category, "category", self.root)

    @abstractmethod
    def normals(self, category: str) -> list[Sample]:
        """Normal training images of one category, in any order."""

    @abstractmethod
    def tests(self, category: str) -> list[Sample]:
        """Test images of one category, normal and anomalous, in any order."""

    def locate(self) -> Path:
        """The root of a data set that needs none named; `prepare_data` makes what is not there."""
        raise NotImplementedError(f"{type(self).__name__} declares needs_root = False but no locate().")

    def setup(self, stage: str) -> None:
        """Look whether the root is there; DataError if it is not."""
        check_root(self.root, self.layout, self.source)

    @classmethod
    def find_categories(cls, root: Path, config: Any = None) -> tuple[str, ...]:
        """The categories that may be asked for; overridden where they are found on disk."""
        return cls.categories

    @classmethod
    def object_name(cls, category: str) -> str:
        """The words that name a category's object in a prompt."""
        return cls.object_names.get(category, category.replace("_", " "))

    def masks_known(self, category: str) -> bool:
        """Whether anomalous pixels are marked; if not, batches carry masks that are all False."""
        return self.has_masks

    @property
    def list_files(self) -> tuple[Path, ...]:
        """Files below the root that list the images; none where folders tell."""
        return ()

    @property
    def watched(self) -> tuple[Path, ...]:
        """The folders that hold all files by which the samples are known; to be asked after `prepare_data`."""
        return (self.root,)

    def describe_use(self) -> Use:
        """Which files below the root are used and which are not, by the reason why; DataError as `normals`, `tests`."""
        unchosen = []
        for category in {*self.find_categories(self.root, self.config)} - {*self.chosen}:
            with suppress(DataError):
                unchosen += [*self.normals(category), *self.tests(category)]
        used = [sample for category in self.chosen for sample in (*self.normals(category), *self.tests(category))]
        return account(self.root, used, unchosen, self.list_files)

    def relative(self, path: Path) -> str:
        """The name of a file in records: relative to the root, posix."""
        return path.relative_to(self.root).as_posix()

    def verify(self) -> None:
        """Look at all that will be read; only masks are decoded.

        Raises:
            DataError: the first thing found wrong: root, layout, numbers of images, pairing, a damaged file.
        """
        check_root(self.root, self.layout, self.source)
        for category in self.chosen:
            normals, tests = self.normals(category), self.tests(category)
            check_category(category, normals, tests, self.shots, masks_known=self.masks_known(category))

    def fingerprint(self, category: str) -> str:
        """Sha256 of all files of a category: split, path, label, and the content of every image and mask.

        Neither shots, nor seed, nor limit enter.
        """
        return self._hash_files([("train", self.normals(category)), ("test", self.tests(category))])

    def test_fingerprint(self, category: str) -> str:
        """Sha256 of the test images of a category, all of them, likewise."""
        return self._hash_files([("test", self.tests(category))])

    def _hash_files(self, splits: Sequence[tuple[str, Sequence[Sample]]]) -> str:
        digest = hashlib.sha256()
        for split, samples in splits:
            for sample in self._in_order(samples):
                files = [(self.relative(p), file_digest(p)) for p in (sample.image, sample.mask) if p is not None]
                digest.update(json.dumps([split, sample.anomalous, files]).encode() + b"\n")
        return digest.hexdigest()

    @property
    def shot_rule(self) -> str:
        """Name of the rule that `sample_shots` follows."""
        return SHOT_RULE

    def sample_shots(self, category: str) -> list[Sample]:
        """The shots of one category, in the order in which they were sampled."""
        return sample_shots(self.normals(category), self.shots, self.seed)

    def describe_shots(self, category: str) -> list[dict[str, str]]:
        """The shots of one category as {"path", "sha256" of the file}, in the order of `sample_shots`."""
        return [{"path": self.relative(s.image), "sha256": file_digest(s.image)} for s in self.sample_shots(category)]

    def manifest(self) -> dict[str, list[dict[str, str]]]:
        """`describe_shots` of all categories."""
        return {category: self.describe_shots(category) for category in self.chosen}

    def shot_images(self, category: str, size: int | None = None) -> Tensor:
        """The shots of one category, (k, 3, size, size) float32 in [0, 1], in the order of `sample_shots`."""
        side = size or self.image_size
        images = [read_image(sample.image, side) for sample in self.sample_shots(category)]
        return torch.stack(images) if images else torch.empty(0, 3, side, side)

    def train_dataloader(self) -> Iterable[Batch]:
        """What the module that the trainer fits asks for as its `fit_data`; the shots for one that asks for nothing.

        Raises:
            DataError: see `fit_loader`.
        """
        module = self.trainer.lightning_module if self.trainer else None
        return self.fit_loader(getattr(module, "fit_data", FitData("shots")))

    def fit_loader(self, wanted: FitData) -> Iterable[Batch]:
        """Batches of a fit, shuffled or resampled by the seed; every rank reads all of them.

        Raises:
            DataError: no shots were asked for, or no category has masks.
        """
        if wanted.images == "nothing":
            return []
        samples = self._shots() if wanted.images == "shots" else self._labelled()
        size, batch_size = self.image_size * wanted.scale, wanted.batch_size or self.batch_size
        images = SampleImages(samples, self.root, size, self._cache(size))
        if wanted.steps:
            resampled = ResampledImages(
                images,
                batches=wanted.steps,
                batch_size=batch_size,
                seed=self.seed,
                augment=wanted.augment,
                repeats=wanted.repeats,
            )
            return self._loader(resampled, collate, InOrder(len(resampled)), batch_size * wanted.repeats)
        loader = self._loader(images, collate, ShuffledByEpoch(len(images), self.seed), batch_size)
        if not wanted.once:
            return loader
        batches: Any = list(loader)
        return DataLoader(batches, batch_size=None, sampler=InOrder(len(batches)))

    @property
    def test_samples(self) -> list[Sample]:
        """The test images of all categories, category by category, by name: what a `UnlabelledBatch.indices` count."""
        return [s for category in self.chosen for s in self._limited(category)]

    def test_dataloader(self) -> DataLoader[UnlabelledBatch]:
        """The images of `test_samples` in their order, without labels, masks and paths; dealt to ranks by batches."""
        images: Any = UnlabelledImages(self.test_samples, self.image_size, self._cache(self.image_size))
        several = dist.is_available() and dist.is_initialized()
        rank, ranks = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
        order = DealtBatches(len(images), self.batch_size, rank=rank, ranks=ranks)
        return self._loader(images, collate_unlabelled, order, self.batch_size)

    def predict_dataloader(self) -> DataLoader[UnlabelledBatch]:
        """The same."""
        return self.test_dataloader()

    def _cache(self, size: int) -> PixelCache | None:
        return PixelCache(size, self.cache_gib) if self.cache_gib else None

    def _labelled(self) -> list[Sample]:
        samples = [s for category in self.chosen if self.masks_known(category) for s in self._limited(category)]
        if not samples:
            raise DataError(f"{type(self).__name__} cannot be an auxiliary data set: {self.chosen} have no masks.")
        return samples

    def _shots(self) -> list[Sample]:
        samples = [sample for category in self.chosen for sample in self.sample_shots(category)]
        if not samples:
            raise DataError("there is nothing to train on: shots is 0.")
        return samples

    def _limited(self, category: str) -> list[Sample]:
        tests = self._in_order(self.tests(category))
        return tests if self.limit is None else limit_evenly(tests, self.limit)

    def _in_order(self, samples: Sequence[Sample]) -> list[Sample]:
        return sorted(samples, key=lambda sample: self.relative(sample.image))

    def _loader(
        self, images: Dataset[Any], stack: Callable[[Any], Any], order: InOrder, batch_size: int
    ) -> DataLoader[Any]:
        """A loader whose order depends on the seed and the epoch alone.

        Its generator is its own, so reading takes nothing from the global one, whose numbers belong to the method.
        """
        return DataLoader(
            images,
            batch_size=batch_size,  # by name: Lightning makes a second loader of the arguments for predict
            sampler=order,
            num_workers=self.num_workers,
            collate_fn=stack,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator().manual_seed(self.seed),
        )
