"""Miniatures of the data sets of the papers, in the exact layout in which they come: endings, capitals, names."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from twins import HEIGHT, WIDTH, image, mask, save, write_mvtec_category


def write_mpdd(root: Path) -> Path:
    for number, category in enumerate(("bracket_black", "tubes")):
        write_mvtec_category(root / category, seed=100 * number)
    return root


def write_dtd_synthetic(root: Path) -> Path:
    for number, category in enumerate(("Blotchy_099", "Woven_127")):
        write_mvtec_category(root / category, seed=100 * number)
    return root


def write_btad(root: Path) -> Path:
    """Bitmaps, as masks too in 03; the images of 02 are .png."""
    for category, of_images, of_masks in (("01", ".bmp", ".png"), ("02", ".png", ".png"), ("03", ".bmp", ".bmp")):
        write_mvtec_category(root / category, normal="ok", defects=("ko", "kx"), seed=100 * int(category))
        folder = root / category
        for path in sorted((folder / "ground_truth" / "kx").glob("*")):  # one kind of defect in the real set
            path.replace(folder / "ground_truth" / "ko" / f"1{path.name}")
        for path in sorted((folder / "test" / "kx").glob("*")):
            path.replace(folder / "test" / "ko" / f"1{path.name}")
        (folder / "ground_truth" / "kx").rmdir()
        (folder / "test" / "kx").rmdir()
        for path in sorted(folder.rglob("*.png")):
            ending = of_masks if "ground_truth" in path.parts else of_images
            picture = Image.open(path).copy()
            path.unlink()
            picture.save(path.with_name(path.name.replace("_mask", "")).with_suffix(ending))
    return root


def write_mvtec_ad_2(root: Path) -> Path:
    for number, category in enumerate(("can", "walnuts")):
        folder = root / category
        for i in range(5):
            save(image(100 * number + i), folder / "train" / "good" / f"{i:03}_regular.png")
        for i in range(3):
            save(image(100 * number + 10 + i), folder / "test_public" / "good" / f"{i:03}_regular.png")
        for i in range(4):
            save(image(100 * number + 20 + i, defect=True), folder / "test_public" / "bad" / f"{i:03}_shift_1.png")
            save(mask(), folder / "test_public" / "ground_truth" / "bad" / f"{i:03}_shift_1_mask.png")
        save(image(100 * number + 50), folder / "validation" / "good" / "000_regular.png")
        save(image(100 * number + 51), folder / "test_private" / "000_regular.png")
    return root


def write_dagm(root: Path) -> Path:
    """Capital endings; labels in a folder inside the images' one, beside a list."""
    for number, category in enumerate(("Class1", "Class10")):
        for half, count in (("Train", 5), ("Test", 3)):
            folder = root / category / half
            for i in range(count):
                save(image(100 * number + 10 * len(half) + i), folder / f"{i + 1:04}.PNG")
            for i in range(4):
                name = f"{count + i + 1:04}"
                save(image(100 * number + 50 + 10 * len(half) + i, defect=True), folder / f"{name}.PNG")
                save(mask(), folder / "Label" / f"{name}_label.PNG")
            (folder / "Label" / "Labels.txt").write_text("1\n")
    return root


def write_real_iad(root: Path) -> Path:
    """Two views of each sample; the list of the single view names those from above alone."""
    for number, category in enumerate(("audiojack", "u_block")):
        folder = root / "realiad_1024" / category
        lists: dict[str, dict] = {}
        for name, views in (("realiad_jsons", ("C1", "C2")), ("realiad_jsons_sv", ("C1",))):
            lists[name] = {"meta": {"prefix": f"{category}/", "normal_class": "OK"}, "train": [], "test": []}
            for i, split in enumerate(["train"] * 5 + ["test"] * 3):
                for view in views:
                    path = f"OK/S{i:04}/{category}_{i:04}_OK_{view}_2023.jpg"
                    save(image(1000 * number + 10 * i + int(view[1])), folder / path)
                    entry = {"category": category, "anomaly_class": "OK", "image_path": path, "mask_path": None}
                    lists[name][split].append(entry)
            for i in range(4):
                for view in views:
                    path = f"NG/AK/S{i:04}/{category}_{i:04}_NG_AK_{view}_2023.jpg"
                    save(image(1000 * number + 500 + 10 * i + int(view[1]), defect=True), folder / path)
                    truth = path.replace(".jpg", ".png")
                    save(mask(), folder / truth)
                    entry = {"category": category, "anomaly_class": "AK", "image_path": path, "mask_path": truth}
                    lists[name]["test"].append(entry)
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{category}.json").write_text(json.dumps(lists[name]))
    return root


def write_ksdd(root: Path) -> Path:
    """Tall photographs, one in four with a crack in its middle third; labels are bitmaps."""
    for folder in range(1, 5):
        for part in range(4):
            cracked = part == 3
            pixels = np.random.default_rng(10 * folder + part).integers(0, 128, (3 * HEIGHT, WIDTH), dtype=np.uint8)
            label = np.zeros((3 * HEIGHT, WIDTH), np.uint8)
            if cracked:
                pixels[HEIGHT + 8 : HEIGHT + 14, 4:10] = 255
                label[HEIGHT + 8 : HEIGHT + 14, 4:10] = 255
            save(Image.fromarray(pixels), root / f"kos{folder:02}" / f"Part{part}.jpg")
            save(Image.fromarray(label), root / f"kos{folder:02}" / f"Part{part}_label.bmp")
    return root


def write_aitex(root: Path) -> Path:
    """Strips of four squares; one with a defect has two masks, another's are all in one."""
    for number, fabric in enumerate(("2306881-210020u", "2306894-210033u")):
        for i in range(2):
            save(_strip(10 * number + i, None), root / "NODefect_images" / fabric / f"{i:04}_000_0{number}.png")
    for i, (code, squares) in enumerate((("002", (0,)), ("019", (1, 3)), ("030", (2,)))):
        stem = f"{i:04}_{code}_02"
        save(_strip(50 + i, squares), root / "Defect_images" / f"{stem}.png")
        if len(squares) == 1:
            save(_strip_mask(squares), root / "Mask_images" / f"{stem}_mask.png")
        else:
            for part, square in enumerate(squares, start=1):
                save(_strip_mask((square,)), root / "Mask_images" / f"{stem}_mask{part}.png")
    return root


def _strip(seed: int, squares: tuple[int, ...] | None) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 128, (256, 1024), dtype=np.uint8)
    for square in squares or ():
        pixels[100:160, 256 * square + 50 : 256 * square + 120] = 255
    return Image.fromarray(pixels)


def _strip_mask(squares: tuple[int, ...]) -> Image.Image:
    marks = np.zeros((256, 1024), np.uint8)
    for square in squares:
        marks[100:160, 256 * square + 50 : 256 * square + 120] = 255
    return Image.fromarray(marks)


def write_elpv(root: Path) -> Path:
    lines = []
    for i in range(28):
        probability = (0.0, 0.0, 0.0, 1.0, 1 / 3, 0.0, 0.0)[i % 7]
        crystal = "mono" if i % 2 else "poly"
        save(image(i, defect=probability == 1.0).convert("L"), root / "images" / f"cell{i + 1:04}.png")
        lines.append(f"images/cell{i + 1:04}.png  {probability:<18} {crystal}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def write_brain_mri(root: Path) -> Path:
    for i in range(8):
        save(image(i), root / "no" / f"{i + 1} no.{('jpg', 'JPG', 'jpeg', 'png')[i % 4]}")
    for i in range(4):
        save(image(20 + i, defect=True), root / "yes" / f"Y{i + 1}.JPG")
    (root / "yes" / ".DS_Store").write_bytes(b"\0")
    return root


def write_br35h(root: Path) -> Path:
    for i in range(8):
        save(image(i), root / "no" / f"no{i}.jpg")
    for i in range(4):
        save(image(20 + i, defect=True), root / "yes" / f"y{i}.jpg")
    for i in range(3):
        save(image(40 + i), root / "pred" / f"pred{i}.jpg")
    return root


def write_lag(root: Path) -> Path:
    for i in range(8):
        save(image(i), root / "non_glaucoma" / "image" / f"{i}.jpg")
    for i in range(4):
        save(image(20 + i, defect=True), root / "suspicious_glaucoma" / "image" / f"{i}.jpg")
        save(mask(), root / "suspicious_glaucoma" / "attention_map" / f"{i}.jpg")
    return root


def write_head_ct(root: Path) -> Path:
    """A blank in the header of the labels; the last image is RGBA."""
    lines = ["id, hemorrhage"]
    for i in range(12):
        picture = image(i, defect=i < 4)
        save(picture.convert("RGBA") if i == 11 else picture, root / "head_ct" / f"{i:03}.png")
        lines.append(f"{i},{int(i < 4)}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


def _pairs(root: Path, images: str, masks: str, ending: str, *, of_masks: str = "", suffix: str = "") -> Path:
    for i in range(4):
        save(image(i, defect=True), root / images / f"{i + 1}{ending}")
        save(mask(), root / masks / f"{i + 1}{suffix}{of_masks or ending}")
    return root


def write_cvc_colondb(root: Path) -> Path:
    return _pairs(root, "images", "masks", ".png")


def write_cvc_clinicdb(root: Path) -> Path:
    return _pairs(root, "Original", "Ground Truth", ".tif")


def write_kvasir(root: Path) -> Path:
    return _pairs(root, "images", "masks", ".jpg", of_masks=".png")


def write_endo(root: Path) -> Path:
    return _pairs(root, "images", "masks", ".jpg", of_masks=".png")


def write_isic2016(root: Path) -> Path:
    folders = ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth")
    return _pairs(root, *folders, ".jpg", of_masks=".png", suffix="_Segmentation")


def write_tn3k(root: Path) -> Path:
    return _pairs(root, "test-image", "test-mask", ".jpg", of_masks=".png")


def _bmad(root: Path, inner: str, masks: str) -> Path:
    for i in range(5):
        save(image(i).convert("L"), root / "train" / "good" / inner / f"{i:05}.png")
    for i in range(3):
        save(image(10 + i).convert("L"), root / "test" / "good" / inner / f"{i:05}.png")
    for i in range(4):
        save(image(20 + i, defect=True).convert("L"), root / "test" / "Ungood" / inner / f"{i:05}.png")
        if masks:
            save(mask(), root / "test" / "Ungood" / masks / f"{i:05}.png")
    save(image(99), root / "valid" / "good" / inner / "00000.png")
    return root


def write_bmad_brain(root: Path) -> Path:
    return _bmad(root, "img", "anomaly_mask")


def write_bmad_liver(root: Path) -> Path:
    return _bmad(root, "img", "label")


def write_bmad_resc(root: Path) -> Path:
    return _bmad(root, "img", "label")


def write_bmad_oct2017(root: Path) -> Path:
    return _bmad(root, "", "")
