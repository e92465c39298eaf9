"""Real-IAD: thirty objects, each photographed from five sides; all views, or the one from above."""

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from datamodules.components.base import AnomalyDataModule
from datamodules.components.sample import DataError, Sample

#: Variant → folder of the lists.
LISTS = {"all_views": "realiad_jsons", "single_view": "realiad_jsons_sv"}
NORMAL = "OK"


class RealIAD(AnomalyDataModule):
    """Wang et al., CVPR 2024: 151,050 images, five views of each sample.

    Papers use two protocols, all views and the top view alone, so the variant says which. A JSON per category lists
    training and test images; those of the noisy protocols are not read.
    """

    categories = (
        "audiojack", "bottle_cap", "button_battery", "end_cap", "eraser", "fire_hood", "mint", "mounts", "pcb",
        "phone_battery", "plastic_nut", "plastic_plug", "porcelain_doll", "regulator", "rolled_strip_base",
        "sim_card_set", "switch", "tape", "terminalblock", "toothbrush", "toy", "toy_brick", "transistor1", "u_block",
        "usb", "usb_adaptor", "vcpill", "wooden_beads", "woodstick", "zipper",
    )  # fmt: skip
    object_names: ClassVar[dict[str, str]] = {
        "audiojack": "audio jack",
        "pcb": "printed circuit board",
        "terminalblock": "terminal block",
        "transistor1": "transistor",
        "u_block": "block",
        "usb": "usb connector",
        "vcpill": "pill",
        "woodstick": "wooden stick",
    }
    source = "https://huggingface.co/datasets/REAL-IAD/Real-IAD"
    obtain = "Ask for access on that page; unpack realiad_1024 (or another size) and realiad_jsons[_sv] to <root>."
    licence = "CC BY-NC-SA 4.0"
    citation = "Wang et al., Real-IAD, CVPR 2024, arXiv:2403.12580"
    aliases = ("RealIAD", "real-iad", "realiad")
    layout = "<root>/realiad_<size>/<category>/{OK,NG}/… and <root>/realiad_jsons[_sv]/<category>.json"
    folder_name = "real_iad"

    @dataclass(kw_only=True)
    class Config:
        """Which images.

        Attributes:
            variant: all five views of a sample, or the one from above.
            size: which of the published copies is read; the protocol's resolution is set elsewhere.
        """

        variant: Literal["all_views", "single_view"] = "all_views"
        size: Literal["256", "512", "1024", "raw"] = "1024"

    config: Config

    def normals(self, category: str) -> list[Sample]:
        return [sample for sample in self._listed(category, "train") if not sample.anomalous]

    def tests(self, category: str) -> list[Sample]:
        return self._listed(category, "test")

    def _listed(self, category: str, split: str) -> list[Sample]:
        file = self._list_file(category)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            prefix, entries = content.get("meta", {}).get("prefix", category), content[split]
            return [self._sample(entry, prefix, category) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{file} is no list of Real-IAD: {type(error).__name__} {error}.") from error

    def _list_file(self, category: str) -> Path:
        name = LISTS[self.config.variant]
        places = [self.root / name / f"{category}.json", self.root / name / name / f"{category}.json"]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DataError(f"no list of {category!r}: looked for {places[0]}. Expected {self.layout}.")
        return found

    def _sample(self, entry: dict[str, Any], prefix: str, category: str) -> Sample:
        anomalous = entry["anomaly_class"] != NORMAL
        image = self._file(prefix, entry["image_path"])
        mask = entry.get("mask_path") if anomalous else None
        return Sample(image, category, anomalous, self._file(prefix, mask) if mask else None, self._kind(entry))

    def _kind(self, entry: dict[str, Any]) -> str:
        return "good" if entry["anomaly_class"] == NORMAL else str(entry["anomaly_class"])

    def _file(self, prefix: str, name: str) -> Path:
        path = PurePosixPath(prefix) / name
        if path.is_absolute() or ".." in path.parts:
            raise DataError(f"a list of Real-IAD points to {name!r}: paths must stay below the root.")
        return self.root / f"realiad_{self.config.size}" / path
