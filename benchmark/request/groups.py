"""The settings that every run has, by group: type, range and meaning of each, declared here alone.

Read from this source like the `Config` of a method. configs/base.yaml holds the values of a run that asks for nothing
else; the defaults here are equal and stand in for what an older record lacks.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

Group = TypeVar("Group")


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """What is compared; each axis multiplies the number of cells.

    Attributes:
        methods: names of `bench list methods`.
        datasets: names of `bench list datasets`.
        protocols: names of `bench list protocols`; [] takes the first of each method.
        categories: names of the tested ones; [] takes all of each data set.
        shots: normal images per category, for all protocols but zero_shot.
        seeds: each fits from another start and, in a protocol with shots, on other shots.
        limit: test images per category; a number marks every row as not fit for a leaderboard.
    """

    methods: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    shots: Annotated[tuple[int, ...], ">= 0"] = (1, 2, 4)
    seeds: Annotated[tuple[int, ...], ">= 0, <= 4294967295"] = (0, 1, 2)
    limit: Annotated[int | None, ">= 1"] = None


@dataclass(frozen=True, kw_only=True)
class BackboneSettings:
    """The frozen CLIP; a file of configs/backbone, or NAME/PRETRAINED of open_clip, says several at once.

    Attributes:
        name: "embedded", or a model of open_clip with a ViT.
        pretrained: a tag of open_clip, "demo" or "random" of the embedded CLIP, or the path of a checkpoint.
        activation: activation of a checkpoint that the suite does not know; null takes the model's.
        forced_activation: activation that the towers run with against their training, as some released code does; null
            takes that of the training.
        image_size: side of the input in px; null takes the model's.
        position_resize: how position embeddings are resized to another `image_size`.
        offers: parts that hold learnt features; a method that needs another one is refused.
    """

    name: str = "embedded"
    pretrained: str = "demo"
    activation: Literal["gelu", "quick_gelu"] | None = None
    forced_activation: Literal["gelu", "quick_gelu"] | None = None
    image_size: Annotated[int | None, ">= 1, <= 4096"] = None
    position_resize: Literal["bilinear", "open_clip"] = "bilinear"
    offers: tuple[Literal["text_tower", "patch_tokens"], ...] = ("text_tower", "patch_tokens")

    @property
    def arguments(self) -> dict[str, Any]:
        """What `CLIPBackbone.load` takes: all but `offers`, which states what is so."""
        return {key: value for key, value in asdict(self).items() if key != "offers"}


@dataclass(frozen=True, kw_only=True)
class ProtocolSettings:
    """How every method is fitted and measured.

    Attributes:
        evaluation_size: side in px at which every map is compared with its mask, whatever the method's own.
        precision: number format of the CLIP towers; scores and metrics are always float32 and float64.
        auxiliary: data set that a method is fitted on before it is tested elsewhere; null takes mvtec_ad, and visa to
            test on mvtec_ad.
        regions: where AUPRO finds regions: in the "resized" mask, as published code does, so that each piece of a
            broken scratch counts as one, or at the mask's "native" size.
        published_metric: true adds pixel_PRO@200steps, PRO as the code of FAPrompt, AnomalyCLIP and ADer computes it.
    """

    evaluation_size: Annotated[int, ">= 8, <= 4096"] = 256
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    auxiliary: str | None = None
    regions: Literal["resized", "native"] = "resized"
    published_metric: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """What a cell runs on; changes no number beyond rounding.

    Attributes:
        accelerator: "auto" takes a GPU where there is one; the record names the device.
        batch_size: test images per step.
        num_workers: processes that read images; null takes none, and for a fit on 1,000 synthesised anomalies or more
            as many as cores are idle, at most 4.
        pixel_cache_gib: size in GiB of the cache of decoded and resized images below $BENCH_CACHE; 0 keeps none, and
            neither does a disk with less than four times that free.
        devices: GPUs, or CPU processes, of one cell, which share its test images; a fit is made on each of them.
    """

    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    batch_size: Annotated[int, ">= 1"] = 16
    num_workers: Annotated[int | None, ">= 0, <= 512"] = None
    pixel_cache_gib: Annotated[float, ">= 0"] = 4.0
    devices: Annotated[int, ">= 1, <= 64"] = 1


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """The store of features of frozen image passes, reused by epochs, seeds, shots, methods and runs.

    Attributes:
        enabled: true keeps features on disk; scores agree to 1e-5 either way, to the byte only without.
        folder: where the store lies; null takes $BENCH_CACHE/features, or the user's cache.
        max_gib: size in GiB above which the least recently used features go; four layers of a ViT-L at 518 px take 16
            MiB an image.
    """

    enabled: bool = False
    folder: str | None = None
    max_gib: Annotated[float, "> 0"] = 20.0


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """What is kept of a cell beside its record, for `bench rescore`, uncertainty, pictures and `bench predict`.

    Attributes:
        keep: true keeps scores and maps of a cell in one file beside its record, and what it holds of its shots.
        max_mib: size in MiB of a cell's maps above which its scores alone are kept; a map of 37 x 37 patches is 2.7 KB.
        fit_max_mib: size in MiB of what a method holds after a fit on shots, learnt and remembered, above which none of
            it is kept and `bench predict` fits again; one block of 37 x 37 patches of a ViT-L takes 5.6 MB a shot.
    """

    keep: bool = True
    max_mib: Annotated[float, ">= 0"] = 64.0
    fit_max_mib: Annotated[float, ">= 0"] = 32.0


@dataclass(frozen=True, kw_only=True)
class LoggerSettings:
    """Where curves go besides the record; a file of configs/logger says several at once.

    Attributes:
        name: "csv", which is always on, or beside it "wandb", "tensorboard" or "mlflow", the last two of extras.
        project: project of W&B, experiment of MLflow.
        entity: user or team of W&B; null takes the user's default.
        mode: mode of W&B; null takes WANDB_MODE, else online where a key is found, else offline.
        worst: images that W&B gets of a cell with their maps, those that rank most wrongly, where predictions are kept.
    """

    name: Literal["csv", "wandb", "tensorboard", "mlflow"] = "csv"
    project: str | None = None
    entity: str | None = None
    mode: Literal["online", "offline", "disabled"] | None = None
    worst: Annotated[int, ">= 0, <= 64"] = 8


@dataclass(frozen=True, kw_only=True)
class ExecutorSettings:
    """Where cells run; a file of configs/executor. It changes no number: each cell is a function of its request.

    Attributes:
        name: "local" runs one cell after another in this process, "pool" in processes of this machine, "ray" on a
            cluster.
        workers: cells at once, of "pool"; null takes one for each `gpus_per_cell`, without GPUs for each `cores`.
        cores: CPU cores of a cell, so many threads torch gets; null divides those of the machine by the workers.
        gpus_per_cell: GPUs of a cell; 0.25 lets four cells share one, whose memory nobody then guards.
        timeout: seconds after which an attempt is ended and recorded as failed; null waits for ever.
        retries: further attempts, in the same run, at a cell whose process has died.
    """

    name: Literal["local", "pool", "ray"] = "local"
    workers: Annotated[int | None, ">= 1, <= 1024"] = None
    cores: Annotated[int | None, ">= 1, <= 1024"] = None
    gpus_per_cell: Annotated[float, "> 0, <= 64"] = 1.0
    timeout: Annotated[float | None, "> 0"] = None
    retries: Annotated[int, ">= 0, <= 100"] = 1


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """What `executor=ray` runs on.

    Attributes:
        address: of a running cluster, "auto" or host:port; null starts Ray on this machine and ends it with the sweep.
        warm: true keeps a process, with its CLIP, for the next like cell; false gives each attempt a new one.
        object_store_mib: memory that Ray may take for objects on this machine; records travel inside its messages.
    """

    address: str | None = None
    warm: bool = True
    object_store_mib: Annotated[int, ">= 80"] = 128


CLASSES: dict[str, type] = {
    "sweep": SweepSettings,
    "backbone": BackboneSettings,
    "protocol": ProtocolSettings,
    "trainer": TrainerSettings,
    "features": FeatureSettings,
    "predictions": PredictionSettings,
    "logger": LoggerSettings,
    "executor": ExecutorSettings,
    "ray": RaySettings,
}


def from_values(cls: type[Group], values: Mapping[str, Any]) -> Group:
    """A dataclass from plain data, as of YAML or JSON; also those that its fields hold.

    A key that is missing takes its default and one that the class lacks is left out: both happen in older records.
    """
    kinds = _kinds(cls)  # type: ignore[arg-type]
    return cls(**{key: _typed(kinds[key], value) for key, value in values.items() if key in kinds})


@cache
def _kinds(cls: Any) -> dict[str, Any]:
    return {field.name: field.type for field in fields(cls)}


def _typed(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(kind, type) and isinstance(value, Mapping):
        return from_values(kind, value)
    return tuple(value) if isinstance(value, list) else value
