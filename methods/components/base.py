"""Base class of all methods: a subclass says how to remember, what to minimise and how to score."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam

from datamodules.components.base import AnomalyDataModule
from datamodules.components.fit_data import FitData
from datamodules.components.resampling import Augment, unchanged
from datamodules.components.sample import Batch, UnlabelledBatch
from methods.components.clip.backbone import BackboneError, CLIPBackbone
from methods.components.memory import Memory
from methods.components.prediction import Prediction

Settings = TypeVar("Settings")


class Method(LightningModule, ABC, Generic[Settings]):
    """A CLIP anomaly detector, generic in its `Config`.

    Class attributes are literals: the registry reads them from the source without importing torch.
    Subclasses implement `predict`; `loss` if they learn; `adapt` if they remember. They never see test
    labels: the base hands `predict` images and category keys alone.

    With datamodules of this suite, `Trainer(max_epochs=method.max_epochs).fit(method, datamodule)` fits a method on
    what its paper says: nothing, the shots, or the datamodule's test images ("auxiliary", tested elsewhere). `fit`,
    `test` and `predict` show it the shots first. A checkpoint holds what it learnt and remembers, and its settings:
    `load_from_checkpoint(path, backbone=backbone)`.
    """

    #: Where the method is published; "" for a baseline that has no paper.
    paper: ClassVar[str]
    #: What published figures of it are filed under in configs/published; more than one where a paper has more names.
    published: ClassVar[tuple[str, ...]] = ()
    #: Protocols the method can honour: "zero_shot", "few_shot", "multi_class", "leave_one_class_out".
    protocols: ClassVar[tuple[str, ...]]
    #: What it cannot do without: "text_tower", "patch_tokens" of the backbone, the "category" of a test image, "shots",
    #: "defect_words" of a category, or "optional_defect_words", which are read where a category has some. One that a
    #: setting needs is written "category if bank=per_class".
    needs: ClassVar[tuple[str, ...]] = ()
    #: What its parameters are fitted on.
    fits_on: ClassVar[Literal["nothing", "shots", "auxiliary"]] = "nothing"
    #: Epochs of a fit; ignored when nothing is fitted. One with `steps` is one epoch.
    max_epochs: ClassVar[int] = 0
    #: Side of the images of a fit, in sides of the backbone's.
    train_scale: ClassVar[int] = 1
    #: Whether the loss knows the shots from `adapt` and looks at no image of a batch: a fit then reads each one once.
    remembers_shots: ClassVar[bool] = False
    #: Cross-entropies of normal and anomalous images among its terms, each with the term that is the share of anomalous
    #: ones: a fit whose entropy is not below that of the share has learnt nothing but how frequent they are.
    shares: ClassVar[dict[str, str]] = {}

    @dataclass(kw_only=True)
    class Config:
        """Named settings, the paper's values as defaults. Fields are literals of plain types or `Literal`.

        A number says its range, `lr: Annotated[float, "> 0"] = 1e-3`: one bound, or two as in ">= 0, < 1"; it holds for
        each element of a tuple, and None stays allowed. A request out of range is refused before anything runs.
        """

    backbone: CLIPBackbone

    def __init__(
        self,
        backbone: CLIPBackbone,
        categories: Mapping[str, str],
        config: Settings | Mapping[str, Any] | None = None,
    ) -> None:
        """Borrow the backbone.

        Args:
            backbone: the shared frozen CLIP; not a submodule, so neither in `parameters` nor in checkpoints.
            categories: category key to the words that name the object, e.g. {"metal_nut": "metal nut"}.
            config: an instance of the class's `Config`, or some of its values; None takes its defaults.
        """
        super().__init__()
        object.__setattr__(self, "backbone", backbone)
        self.categories = dict(categories)
        self.remarks: list[str] = []  # what a record must say of a run besides its settings
        self.terms: dict[str, Tensor] = {}  # scalars that the last loss was made of, logged as train/NAME
        values = {} if config is None else config
        self.config = cast(Settings, type(self).Config(**values) if isinstance(values, Mapping) else values)
        self.save_hyperparameters({"categories": self.categories, "config": asdict(cast(Any, self.config))})
        self.shots_seen: dict[str, dict[str, Any]] = {}  # shots that `adapt` saw, by category
        self.fitted_on: dict[str, Any] = {}  # what its parameters were fitted on
        self._fit_words: dict[str, str] = {}  # as `categories`, of what it is fitted on

    @property
    def steps(self) -> int:
        """Batches of a fit on shots resampled evenly; 0, without such a setting, shows each once an epoch."""
        return getattr(self.config, "steps", 0)

    @property
    def learnt(self) -> dict[str, Parameter]:
        """The parameters that a fit trains, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @property
    def untrained(self) -> str:
        """What is said of a method that has none of them and should."""
        return (
            f"is fitted on {self.fits_on!r}, as fits_on says, and has no parameter to train: make one, such as an "
            'nn.Parameter that is an attribute, or say fits_on = "nothing".'
        )

    @property
    def shot_scale(self) -> int:
        """Side of the shots that `adapt` sees, in sides of the backbone's."""
        return 1

    @property
    def fit_data(self) -> FitData:
        """What a datamodule gives it to be fitted on."""
        images: Any = {"auxiliary": "labelled"}.get(self.fits_on, self.fits_on)
        return FitData(
            images=images,
            batch_size=getattr(self.config, "batch_size", None),
            scale=self.train_scale,
            steps=self.steps,
            augment=self.augmentation(),
            once=self.remembers_shots,
        )

    @property
    def transductive(self) -> bool:
        """Whether image scores are those of `rescore`, each of which depends on other test images; remarks say so."""
        return False

    def augmentation(self) -> Augment:
        """What every resampled shot passes through with a seed of its own; no part of the method: workers take it."""
        return unchanged

    def adapt(self, shots: Tensor, category: str) -> None:
        """See the k normal images of one category, (k, 3, H, W) in [0, 1], once, before fit and test.

        Those of a category that is held out of the fit come after it.
        """

    def loss(self, batch: Batch) -> Tensor:
        """Scalar training loss."""
        raise NotImplementedError(f"{type(self).__name__} fits on {self.fits_on!r} but defines no loss.")

    @abstractmethod
    def predict(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        """Score images, (B, 3, H, W) in [0, 1], of B category keys."""

    def rescore(self, predicted: Prediction) -> Tensor:
        """Scores (n,) of all n test images of one category, from what `predict` said of them.

        Asked once a test is over, of a transductive method alone; maps (n, s, s) have the size at which they are
        measured. `Trainer.predict` knows no end of a category and gives what `predict` said.
        """
        raise NotImplementedError(f"{type(self).__name__} is transductive but defines no rescore.")

    def begin_fit(self, data: AnomalyDataModule) -> None:
        """See the shots of the data that a fit begins on; an auxiliary set shows none.

        Raises:
            ValueError: it says that it is fitted, and has no parameter to fit.
        """
        self.fitted_on = {}
        if self.fits_on != "auxiliary":
            Method.see_shots(self, data)
        if self.fits_on != "nothing":
            if not self.learnt:
                raise ValueError(f"{type(self).__name__} {self.untrained}")
            self.fitted_on = {"on": self.fits_on, "root": str(data.root), "categories": list(data.chosen)}
            self._fit_words = {category: data.object_name(category) for category in data.chosen}

    def words_of(self, category: str) -> str:
        """The words that name the object of a training image, which an auxiliary data set may name in its own way."""
        return self._fit_words.get(category) or self.categories[category]

    def see_shots(self, data: AnomalyDataModule) -> None:
        """Adapt to the shots of each category of `data`, but to those that were seen before.

        Raises:
            ValueError: the method was fitted on other shots of a category.
        """
        for category in data.chosen if data.shots else ():
            shots = {"image_size": data.image_size, "shots": data.describe_shots(category)}
            if self.shots_seen.get(category) == shots:
                continue
            if self.fitted_on.get("on") == "shots" and category in self.fitted_on["categories"]:
                raise ValueError(
                    f"{type(self).__name__} was fitted on other shots of {category!r} than this datamodule samples: "
                    f"use the same k, seed and image size, or fit it anew; got {_names(shots)}, fitted on "
                    f"{_names(self.shots_seen[category])}."
                )
            with torch.inference_mode(mode=False), torch.no_grad():
                images = data.shot_images(category, data.image_size * self.shot_scale)
                self.adapt(images.to(self.device), category)
            self.shots_seen[category] = shots

    def on_fit_start(self) -> None:
        if data := self._join():
            self.begin_fit(data)

    def on_test_start(self) -> None:
        if data := self._join():
            self._refuse_fitted(data)
            self.see_shots(data)

    def on_predict_start(self) -> None:
        if data := self._join():
            self.see_shots(data)

    def _join(self) -> AnomalyDataModule | None:
        """Bring the CLIP to the trainer's device; the trainer's datamodule, if it is one of this suite."""
        self.backbone.to(self.device)
        data = getattr(self.trainer, "datamodule", None)
        return data if isinstance(data, AnomalyDataModule) else None

    def _refuse_fitted(self, data: AnomalyDataModule) -> None:
        if self.fitted_on.get("on") != "auxiliary" or self.fitted_on["root"] != str(data.root):
            return
        if both := [category for category in data.chosen if category in self.fitted_on["categories"]]:
            raise ValueError(
                f"{type(self).__name__} was fitted on the test images of {', '.join(both)} in {data.root}, so it must "
                "be tested on another data set."
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        try:
            loss = self.loss(batch)
        except StopIteration as error:
            raise self._stopped("training") from error
        logged = {"train/loss": loss} | {f"train/{name}": term for name, term in self.terms.items()}
        self.log_dict(logged, batch_size=len(batch.label), prog_bar=False)
        return loss

    def test_step(self, batch: UnlabelledBatch, batch_idx: int) -> Prediction:  # type: ignore[override]  # callbacks measure it
        try:
            return self.predict(batch.image, batch.category)
        except StopIteration as error:
            raise self._stopped("test") from error

    def predict_step(self, batch: UnlabelledBatch, batch_idx: int) -> Prediction:
        return self.test_step(batch, batch_idx)

    def _stopped(self, step: str) -> RuntimeError:
        """Lightning takes a StopIteration for the end of the data, and would end an epoch or a test in silence."""
        return RuntimeError(f"{type(self).__name__} raised StopIteration in a {step} step, as next() of nothing does.")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return Adam(self.learnt.values(), lr=1e-3) if self.learnt else None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["backbone"] = self._backbone_facts
        checkpoint["shots_seen"], checkpoint["fitted_on"] = self.shots_seen, self.fitted_on
        if (memory := self._memory) is not None:
            checkpoint["memory"] = memory.remembered()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember what a checkpoint knows.

        Raises:
            BackboneError: it was made with another CLIP.
        """
        if checkpoint["backbone"] != self._backbone_facts:
            raise BackboneError(
                f"a checkpoint of {type(self).__name__} needs the CLIP that it was made with, "
                f"{checkpoint['backbone']}; got {self._backbone_facts}."
            )
        self.shots_seen, self.fitted_on = checkpoint["shots_seen"], checkpoint["fitted_on"]
        if (memory := self._memory) is not None:
            memory.restore(checkpoint["memory"])

    @property
    def _memory(self) -> Memory | None:
        """What a subclass remembers as `self.memory`; one that keeps it elsewhere saves it in the two hooks above.

        What these save are tensors, texts, numbers, and lists and mappings of these: so it can lie beside a record too.
        """
        return getattr(self, "memory", None)

    @property
    def _backbone_facts(self) -> dict[str, Any]:
        backbone = self.backbone
        facts = {name: getattr(backbone, name) for name in ("activation", "image_size", "position_resize", "precision")}
        return {"weights_sha256": backbone.weights_hash, **facts}

    @torch.no_grad()
    def forward(self, images: Tensor, categories: Sequence[str]) -> Prediction:
        return self.predict(images, categories)


def _names(shots: Mapping[str, Any]) -> str:
    return ", ".join(shot["path"] for shot in shots["shots"])
