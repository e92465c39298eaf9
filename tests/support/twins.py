"""Tiny twins of the data sets: their exact folders and file names, a few generated images.

Images are 24 wide and 20 high, so that swapped axes show. A defect is a white square, columns 4..9, rows 8..13.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 24, 20
DEFECT = (slice(8, 14), slice(4, 10))  # rows, columns
MVTEC_CATEGORIES = ("bottle", "metal_nut")
VISA_CATEGORIES = ("candle", "pcb1")
VISA_ALL = (
    "candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1",
    "macaroni2", "pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum",
)  # fmt: skip


def image(seed: int, *, defect: bool = False) -> Image.Image:
    """A noisy dark image; the seed names it."""
    pixels = np.random.default_rng(seed).integers(0, 128, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    if defect:
        pixels[DEFECT] = 255
    return Image.fromarray(pixels)


def mask(value: int = 255) -> Image.Image:
    """The mask of the defect, `value` inside and 0 outside."""
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[DEFECT] = value
    return Image.fromarray(pixels)


def save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def write_mvtec_category(
    folder: Path, *, seed: int = 0, normal: str = "good", defects: Iterable[str] = ("a", "b")
) -> None:
    """Five normal training images, three normal test images, two of each defect with masks."""
    for i in range(5):
        save(image(seed + i), folder / "train" / normal / f"{i:03}.png")
    for i in range(3):
        save(image(seed + 10 + i), folder / "test" / normal / f"{i:03}.png")
    for kind, defect in enumerate(defects):
        for i in range(2):
            save(image(seed + 20 + 10 * kind + i, defect=True), folder / "test" / defect / f"{i:03}.png")
            save(mask(), folder / "ground_truth" / defect / f"{i:03}_mask.png")


def write_mvtec_ad(root: Path, categories: Iterable[str] = MVTEC_CATEGORIES) -> Path:
    for number, category in enumerate(categories):
        write_mvtec_category(root / category, seed=100 * number, defects=("broken_large", "contamination"))
    return root


def write_visa(root: Path, categories: Iterable[str] = VISA_CATEGORIES) -> Path:
    """The raw archive: JPEG images, PNG masks with the class ids 1 and 2, the split in a csv.

    As in the real set, numbers have gaps, and have four digits for normal and three for anomalous images.
    """
    lines = ["object,split,label,image,mask"]
    for number, category in enumerate(categories):
        for i, split in enumerate(["train"] * 5 + ["test"] * 3):
            name = f"{category}/Data/Images/Normal/{7 * i:04}.JPG"
            save(image(100 * number + i), root / name)
            lines.append(f"{category},{split},normal,{name},")
        for i in range(4):
            name, truth = f"{category}/Data/Images/Anomaly/{i:03}.JPG", f"{category}/Data/Masks/Anomaly/{i:03}.png"
            save(image(100 * number + 20 + i, defect=True), root / name)
            save(mask(1 + i % 2), root / truth)
            lines.append(f"{category},test,anomaly,{name},{truth}")
        (root / category / "image_anno.csv").write_text("image,label,mask\n")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text("\n".join(lines) + "\n")
    return root


def write_folder(root: Path) -> Path:
    """MVTec layout with own names: normal is `ok` for one category, the other has no masks at all."""
    write_mvtec_category(root / "blue part", normal="ok")
    write_mvtec_category(root / "red_part", seed=100)
    for path in sorted((root / "red_part" / "ground_truth").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (root / "red_part" / "ground_truth").rmdir()
    return root


def write_single(root: Path) -> Path:
    """One category in MVTec layout whose folder is the root."""
    write_mvtec_category(root)
    return root


def write_meta(root: Path) -> Path:
    """MVTec files listed in a meta.json, with one category that has no masks and no training images."""
    write_mvtec_category(root / "part")
    meta: dict[str, dict[str, list[dict[str, object]]]] = {
        "train": {"part": [], "scan": []},
        "test": {"part": [], "scan": []},
    }
    for path in sorted((root / "part").rglob("*.png")):
        split, kind = path.relative_to(root).parts[1:3]
        if split == "ground_truth":
            continue
        truth = "" if kind == "good" else f"part/ground_truth/{kind}/{path.stem}_mask.png"
        record = {"img_path": path.relative_to(root).as_posix(), "mask_path": truth, "cls_name": "part"}
        meta[split]["part"].append(record | {"specie_name": kind, "anomaly": int(kind != "good")})
    for i in range(4):
        name = f"scans/{i}.png"
        save(image(200 + i, defect=i > 1), root / name)
        record = {"img_path": name, "mask_path": "", "cls_name": "scan", "specie_name": "any", "anomaly": int(i > 1)}
        meta["test"]["scan"].append(record)
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def write_flat(root: Path) -> Path:
    """No `train` and no `test`: eight normal images, two of each of two kinds, one folder of masks for both kinds."""
    for i in range(8):
        save(image(i), root / "part" / "OK" / f"{i}.png")
    for kind, start in (("crack", 0), ("dent", 2)):
        for i in range(start, start + 2):
            save(image(20 + i, defect=True), root / "part" / kind / f"{i}.png")
            save(mask(), root / "part" / "masks" / f"{i}.png")
    return root


def write_anomalib(root: Path) -> Path:
    """What anomalib's Folder is given as normal_dir, abnormal_dir, normal_test_dir and mask_dir; images lie deeper."""
    for i in range(5):
        save(image(i), root / "normals" / f"camera {i % 2}" / f"{i // 2}.png")
    for i in range(3):
        save(image(10 + i), root / "clean" / f"{i}.png")
    for i in range(4):
        save(image(20 + i, defect=True), root / "faults" / f"camera {i % 2}" / f"{i // 2}.png")
        save(mask(1 + i % 2), root / "truth" / f"camera {i % 2}" / f"{i // 2}.png")
    return root


def write_table(root: Path) -> Path:
    """A table as spreadsheets save it: a byte-order mark, blanks in the header, rows in no order, CRLF."""
    lines = []
    for i, label in enumerate(["ok"] * 5 + ["Good", "normal", "0"]):
        save(image(i), root / "pictures" / f"{7 * i}.png")
        lines.append(f"pictures/{7 * i}.png,{label},,{'train' if i < 5 else 'test'}")
    for i, label in enumerate(["bad", "NG", "1", "anomaly"]):
        save(image(20 + i, defect=True), root / "pictures" / f"{100 + i}.png")
        save(mask(), root / "truth" / f"{100 + i}.png")
        lines.append(f"pictures/{100 + i}.png,{label},truth/{100 + i}.png,")
    text = "\r\n".join(["\ufeffpath, label, mask, split", *lines[::-1], ""])
    (root / "parts.csv").write_bytes(text.encode())
    return root
