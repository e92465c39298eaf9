"""The cell: the unit of work, of failure, of storage and of resumption. Plain data, no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property
from typing import Any

from benchmark.metrics.table import METRIC_VERSION
from benchmark.request.groups import (
    BackboneSettings,
    FeatureSettings,
    LoggerSettings,
    PredictionSettings,
    ProtocolSettings,
    TrainerSettings,
    from_values,
)
from benchmark.request.protocols import PROTOCOL_VERSION
from methods.components.clip.model_files import SCHEMAS, model_label
from methods.components.clip.published_weights import EMBEDDED, PUBLISHED_FILES, weights_label

#: Warnings in every record and table of the embedded backbone.
RANDOM_NOTE = (
    "random weights: these rows show that the pipeline runs; they are not comparable with any published result"
)
DEMO_NOTE = "distilled from ImageNet features and drawn data, a demonstration, not comparable with any published result"
#: Settings of the backbone that state what is so and change no number.
STATED = ("activation", "offers")
NAMED = 6  # parts of a content that are named where more differ
VERSIONS = {"protocol": PROTOCOL_VERSION, "metrics": METRIC_VERSION}


@dataclass(frozen=True)
class CellSettings:
    """The settings that change the numbers of a cell, resolved. The keys of the first three are those of a `Config`."""

    method: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    auxiliary: Mapping[str, Any] = field(default_factory=dict)  # of the data set that `protocol.auxiliary` names
    protocol: ProtocolSettings = field(default_factory=ProtocolSettings)
    backbone: BackboneSettings = field(default_factory=BackboneSettings)


@dataclass(frozen=True)
class Where:
    """What a cell runs on and where its files lie: must not change a number."""

    root: str | None = None  # of the data set; None is looked for below $BENCH_DATA
    auxiliary_root: str | None = None
    results: str | None = None  # the results folder; None keeps no fit
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    logger: LoggerSettings = field(default_factory=LoggerSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    predictions: PredictionSettings = field(default_factory=PredictionSettings)


@dataclass(frozen=True)
class Cell:
    """One measurement, as it was asked for.

    Every field but `where`, `defaults` and `label` changes its numbers. What they also depend on and what no request
    says (the code, the bytes of the data, what decodes them) is the record's `content`.
    """

    method: str
    dataset: str
    variant: str  # of the data set: which of several splits in circulation
    protocol: str
    categories: tuple[str, ...]  # those tested
    shots: int
    seed: int
    limit: int | None
    settings: CellSettings
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the same groups, to name overrides
    files: Mapping[str, str] = field(default_factory=dict)  # "group.key" that names a file or folder → its sha256
    joint: bool = False  # all categories in one cell
    where: Where = field(default_factory=Where)
    fitted: tuple[str, ...] = ()  # categories whose shots are fitted on, where those tested are held out
    label: str = ""  # of the variant, where several settings of the method are compared

    @cached_property
    def id(self) -> str:
        """Readable words and the first 10 digits of the request's hash; a file counts by its content, not its path."""
        identity = self._request | {
            "categories": self.categories,
            "fitted": self.fitted,
            "seed": self.seed,
            "limit": self.limit,
            "versions": VERSIONS,
        }
        words = (self.method, self.dataset, self.protocol, self.part, f"k{self.shots}", f"s{self.seed}")
        return "-".join((*words, digest(identity)))

    @cached_property
    def setup(self) -> str:
        """Hash of what the cells of one row of a table share: all but seed, limit and, unless joint, categories."""
        return digest(self._request | {"categories": self.categories if self.joint else None})

    @cached_property
    def words(self) -> str:
        """Hash of the request without limit, seed and categories; of the records that share it, the newest counts.

        Settings enter as they differ from the defaults of their time, and files by their paths.
        """
        labels = [self.method_label, self.dataset, self.variant, self.protocol_label, self.backbone_label]
        changed = [self.changed(group) for group in ("dataset", "auxiliary")]
        return digest([labels, changed, self.shots, self.categories if self.joint else None])

    @property
    def _request(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "dataset": [self.dataset, self.variant],
            "protocol": self.protocol,
            "shots": self.shots,
            "settings": self.by_content,
        }

    @property
    def by_content(self) -> dict[str, dict[str, Any]]:
        """The settings, with hashes in the place of paths."""
        groups = vars(self.settings).items()  # `asdict` copies each value, which took most of a plan's time
        found = {group: dict(vars(its) if is_dataclass(its) else its) for group, its in groups}
        for key, sha256 in self.files.items():
            group, _, name = key.partition(".")
            found[group][name] = sha256
        for name in STATED:
            del found["backbone"][name]
        if found["backbone"]["forced_activation"] is None:  # it came later and changed no number of what was there
            del found["backbone"]["forced_activation"]
        return found

    @property
    def datasets(self) -> tuple[str, ...]:
        """The data sets behind it: the target, and the one that it is fitted on if any."""
        return tuple(name for name in (self.dataset, self.settings.protocol.auxiliary) if name)

    @property
    def seen(self) -> tuple[str, ...]:
        """All categories that the method sees images of, tested or not."""
        return tuple(sorted((*self.fitted, *self.categories))) if self.fitted else self.categories

    @property
    def part(self) -> str:
        """The category, or "all"."""
        return "all" if self.joint else self.categories[0]

    @property
    def method_label(self) -> str:
        """The method with the settings that differ from its defaults, e.g. "winclip(temperature=0.07)"."""
        changed = self.changed("method")
        return f"{self.method}({changed})" if changed else self.method

    @property
    def protocol_label(self) -> str:
        """The protocol with what differs from its defaults, e.g. "zero_shot(evaluation_size=64)"."""
        changed = self.changed("protocol")
        return f"{self.protocol}({changed})" if changed else self.protocol

    @property
    def backbone_label(self) -> str:
        """The weights by their content, with what differs from the model as trained, bilinear positions and fp32."""
        backbone, precision = self.settings.backbone, self.settings.protocol.precision
        parts = [
            self._weights_label,
            *([f"run with {backbone.forced_activation}"] if backbone.forced_activation else []),
            *([f"{backbone.image_size}px"] if backbone.image_size else []),
            *([f"positions {backbone.position_resize}"] if backbone.position_resize != "bilinear" else []),
            *([precision] if precision != "fp32" else []),
        ]
        return " ".join(parts)

    @property
    def _weights_label(self) -> str:
        """A published name, or what a file is called with 8 digits of its content."""
        name, pretrained = self.settings.backbone.name, self.settings.backbone.pretrained
        if name.startswith(SCHEMAS):
            return model_label(name, self.files.get("backbone.name"))
        named = name == EMBEDDED and pretrained in ("random", "demo")
        sha256 = None if named else self.files.get("backbone.pretrained")
        model = name.removesuffix("-quickgelu")  # the activation is that of the weights, or they are not loaded
        if sha256 is None:
            return f"embedded-{pretrained}" if named else f"{model}/{pretrained}"
        label = weights_label(pretrained, sha256)
        if name == EMBEDDED:
            return f"embedded-demo {label}"
        return label if sha256 in PUBLISHED_FILES else f"{model}/{label}"

    @property
    def note(self) -> str:
        """The warning that stands beside every number of this backbone; "" for a published CLIP."""
        if self.settings.backbone.name != EMBEDDED:
            return ""
        return RANDOM_NOTE if self.settings.backbone.pretrained == "random" else DEMO_NOTE

    def changed(self, group: str) -> str:
        """The settings of a group that differ from their defaults, by name: "scale=2, sigma=0".

        Args:
            group: "method", "dataset", "auxiliary" or "protocol"; its precision stands in the backbone's label.
        """
        defaults = self.defaults.get(group, {})
        if group == "dataset":  # its variant has a place of its own
            return overrides({k: v for k, v in self.settings.dataset.items() if k != "variant"}, defaults)
        if group != "protocol":
            return overrides(getattr(self.settings, group), defaults)
        values = {key: value for key, value in vars(self.settings.protocol).items() if key != "precision"}
        return overrides(values, {**_PROTOCOL, **defaults})


_PROTOCOL = vars(ProtocolSettings())  # what an older record's defaults lack


def overrides(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The settings that differ from their defaults, by name: "scale=2, sigma=0"."""
    return ", ".join(f"{key}={value}" for key, value in sorted(settings.items()) if value != defaults.get(key))


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the parts in which a record's content differs from today's; parts that one side lacks do not count."""
    words = []
    for kind in (kind for kind in now if kind in recorded):
        before, after = recorded[kind], now[kind]
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            parts = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
            more = f" and {len(parts) - NAMED} more" if len(parts) > NAMED else ""
            words += [f"{kind}: {', '.join(parts[:NAMED])}{more}"] if parts else []
        elif before != after:
            words.append(kind)
    return words


def from_json(fields: Mapping[str, Any]) -> Cell:
    """The cell that `dataclasses.asdict` and JSON made of one, also of an older one: see `from_values`."""
    return from_values(Cell, fields)


def canonical(value: Any) -> str:
    """JSON with one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """The first 10 digits of the hash of plain data."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:10]
