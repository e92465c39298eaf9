"""Recorded pixels as files of a data set, read by the suite as a fit reads them."""

from PIL import Image

from datamodules.components.fit_data import FitData
from datamodules.mvtec_ad import MVTecAD


def save(pixels, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.numpy()).save(path)


def read_fit(recorded, image_size, folder):
    """One batch of all raw images with their masks, in the order of the file; a single raw mask is of the anomalous."""
    images, labels, masks = (recorded[f"data/{key}"] for key in ("raw_image", "label", "raw_mask"))
    masks = masks.expand(len(images), -1, -1)
    for number, (image, anomalous, mask) in enumerate(zip(images, labels.tolist(), masks, strict=True)):
        kind, name = "broken" if anomalous else "good", f"{number:04}"
        save(image, folder / "bottle" / "test" / kind / f"{name}.png")
        if anomalous:
            save(mask, folder / "bottle" / "ground_truth" / kind / f"{name}_mask.png")
    data = MVTecAD(folder, ["bottle"], image_size=image_size)
    (batch,) = data.fit_loader(FitData("labelled", batch_size=len(images)))
    names = [path.rpartition("/")[2] for path in batch.path]
    return pick(batch, sorted(range(len(names)), key=names.__getitem__))


def pick(batch, rows):
    """Those rows of a batch, in that order."""
    return type(batch)(*([part[row] for row in rows] if isinstance(part, list) else part[rows] for part in batch))
