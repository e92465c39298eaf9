"""Data sets that label only a part: what cannot be measured is empty with its reason, the rest is measured."""

import json

import pandas as pd
from twins import image, mask, save


def test_without_normal_images_there_are_pixel_metrics_only(bench, tmp_path):
    records = []
    for i in range(3):
        save(image(i, defect=True), tmp_path / "polyps" / "images" / f"{i}.png")
        save(mask(), tmp_path / "polyps" / "masks" / f"{i}.png")
        record = {"img_path": f"images/{i}.png", "mask_path": f"masks/{i}.png", "cls_name": "polyp"}
        records.append(record | {"specie_name": "polyp", "anomaly": 1})
    (tmp_path / "polyps" / "meta.json").write_text(json.dumps({"train": {}, "test": {"polyp": records}}))
    words = ("run", "--methods", "toy_mean", "--protocols", "zero_shot", "--datasets", "folder", "--seeds", "0")
    assert bench(*words, f"dataset.root={tmp_path / 'polyps'}", "--results", tmp_path / "r").code == 0
    long = pd.read_csv(tmp_path / "r" / "results.csv").set_index("metric")
    images, pixels = long[long.index.str.startswith("image")], long[long.index.str.startswith("pixel")]
    assert set(images["status"]) == {"undefined: no normal image"}
    assert images["value"].isna().all()
    assert pixels["value"].notna().all()
    assert pd.read_csv(tmp_path / "r" / "leaderboard.csv")["status"].item() == "ok"


def test_without_masks_there_are_image_metrics_only(bench, data, tmp_path):
    import shutil

    shutil.rmtree(data / "bottle" / "ground_truth")
    words = ("run", "--methods", "toy_mean", "--datasets", "folder", "--shots", "1", "--seeds", "0")
    assert bench(*words, f"dataset.root={data}", "--results", tmp_path / "r").code == 0
    long = pd.read_csv(tmp_path / "r" / "results.csv").set_index(["category", "metric"])
    assert long.loc[("bottle", "pixel_AP"), "status"] == "undefined: no masks in this data set"
    assert long.loc[("bottle", "image_AP"), "value"] == 1.0
    assert long.loc[("metal_nut", "pixel_AP"), "value"] > 0.5
