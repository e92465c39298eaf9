"""The cell: the unit of work, of failure, of storage and of resumption. Plain data, no torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmark.metrics.names import METRIC_VERSION
from benchmark.protocols import PROTOCOL_VERSION

EMBEDDED = "embedded"
#: What every record and table of the embedded backbone says of itself.
RANDOM_NOTE = (
    "random weights: these rows show that the pipeline runs; they are not comparable with any published result"
)
DEMO_NOTE = "mask-supervised on drawn data, a demonstration, not comparable with any published result"


@dataclass(frozen=True)
class Cell:
    """One measurement. Every field but `where` changes its numbers and belongs to its identity."""

    method: str
    dataset: str
    variant: str  # of the data set: which of several splits in circulation
    protocol: str
    categories: tuple[str, ...]  # those tested
    shots: int
    seed: int
    limit: int | None
    settings: Mapping[str, Mapping[str, Any]]  # resolved: method, dataset, protocol, backbone
    defaults: Mapping[str, Any]  # of the method, to name what was overridden
    code: str  # hash of the method's source
    joint: bool = False  # all categories in one cell
    where: Mapping[str, Any] = field(default_factory=dict)  # root, trainer, logger: must not change a number
    fitted: tuple[str, ...] = ()  # categories whose shots are fitted on, where those tested are held out

    @property
    def id(self) -> str:
        """Readable words and the first 10 digits of the identity's hash."""
        identity = asdict(self) | {"versions": [PROTOCOL_VERSION, METRIC_VERSION]}
        for key in ("where", "defaults", "joint"):
            identity.pop(key)
        if not self.fitted:
            identity.pop("fitted")
        identity["settings"] = {**self.settings, "backbone": {**self.settings["backbone"], "label": None}}
        digits = hashlib.sha256(canonical(identity).encode()).hexdigest()[:10]
        words = (self.method, self.dataset, self.protocol, self.part, f"k{self.shots}", f"s{self.seed}")
        return "-".join((*words, digits))

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
        changed = overrides(self.settings["method"], self.defaults)
        return f"{self.method}({changed})" if changed else self.method

    @property
    def backbone_label(self) -> str:
        """The backbone's label with what differs from fp32."""
        precision = self.settings["protocol"]["precision"]
        size = self.settings["backbone"]["image_size"]
        parts = [
            self._weights_label,
            *([f"{size}px"] if size else []),
            *([precision] if precision != "fp32" else []),
        ]
        return " ".join(parts)

    @property
    def _weights_label(self) -> str:
        """The label; that of the embedded backbone follows its weights, whatever label was given."""
        backbone = self.settings["backbone"]
        if backbone["name"] != EMBEDDED:
            return str(backbone["label"])
        weights = str(backbone["pretrained"])
        return f"embedded-{weights}" if weights in ("random", "demo") else f"embedded-demo {Path(weights).stem}"

    @property
    def note(self) -> str:
        """What must be read beside every number of this backbone; empty for a published CLIP."""
        backbone = self.settings["backbone"]
        if backbone["name"] != EMBEDDED:
            return ""
        return RANDOM_NOTE if backbone["pretrained"] == "random" else DEMO_NOTE


def overrides(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The settings that differ from their defaults, by name: "scale=2, sigma=0"."""
    return ", ".join(f"{key}={value}" for key, value in sorted(settings.items()) if value != defaults.get(key))


def from_json(fields: Mapping[str, Any]) -> Cell:
    """The cell that `dataclasses.asdict` and JSON made of one."""
    lists = {key: tuple(fields.get(key, ())) for key in ("categories", "fitted")}
    return Cell(**{**fields, **lists})


def canonical(value: Any) -> str:
    """JSON with one spelling for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
