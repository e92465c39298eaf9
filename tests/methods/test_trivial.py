"""The three floors against their formulas in plain numpy, and what each of them can and cannot find."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from methods.trivial_colour_knn import TrivialColourKNN
from methods.trivial_colour_outlier import TrivialColourOutlier
from methods.trivial_pixel_difference import TrivialPixelDifference

WITH_SHOTS = (TrivialPixelDifference, TrivialColourKNN)
ALL = (TrivialColourOutlier, *WITH_SHOTS)
SQUARE = (slice(20, 36), slice(40, 52))  # rows, columns


def build(kind, **settings):
    """No backbone: none of them asks it anything."""
    return kind(None, {"nut": "nut", "pcb": "board"}, kind.Config(**settings)).eval()


def noise_images(count, seed, height=64, width=64):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def flat(count, seed):
    """Grey images with a little noise."""
    return 0.5 + 0.02 * noise_images(count, seed)


def edges(length, squares):
    """Where the squares of one axis begin and end; the first ones take a pixel more where it does not divide."""
    sizes = [length // squares + (i < length % squares) for i in range(squares)]
    return np.concatenate([[0], np.cumsum(sizes)])


def colours(image, squares):
    """(squares, squares, 6): mean and deviation of each channel, square by square, in float64."""
    image = image.double().numpy()
    rows, columns = edges(image.shape[1], squares), edges(image.shape[2], squares)
    found = np.zeros((squares, squares, 6))
    for i in range(squares):
        for j in range(squares):
            part = image[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]].reshape(3, -1)
            found[i, j] = [*part.mean(axis=1), *part.std(axis=1)]
    return found


def agrees(prediction, maps):
    torch.testing.assert_close(prediction.anomaly_map.double(), torch.from_numpy(np.stack(maps)), rtol=0, atol=1e-5)
    highest = torch.tensor([each.max() for each in maps], dtype=torch.float64)
    torch.testing.assert_close(prediction.score.double(), highest, rtol=0, atol=1e-5)
    assert prediction.score.dtype == prediction.anomaly_map.dtype == torch.float32


@pytest.mark.parametrize("squares", [1, 5, 16])
@pytest.mark.parametrize("shape", [(64, 64), (70, 33)])
def test_the_colour_outlier_is_its_formula(squares, shape):
    images = noise_images(3, 0, *shape)
    maps = []
    for image in images:
        means = colours(image, squares)[..., :3]
        usual = [np.median(means[..., channel]) for channel in range(3)]
        maps.append(np.sqrt(((means - usual) ** 2).sum(axis=-1)))
    agrees(build(TrivialColourOutlier, squares=squares)(images, ["nut"] * 3), maps)


@pytest.mark.parametrize("sigma", [0.0, 1.5, 4.0])
def test_the_pixel_difference_is_its_formula(sigma):
    method = build(TrivialPixelDifference, sigma=sigma)
    shots = {"nut": noise_images(3, 1), "pcb": noise_images(1, 2)}
    for category, seen in shots.items():
        method.adapt(seen, category)
    images, categories = noise_images(3, 0), ["nut", "pcb", "nut"]
    maps = []
    for image, category in zip(images.double().numpy(), categories, strict=True):
        differences = [np.abs(image - shot).mean(axis=0) for shot in shots[category].double().numpy()]
        blurred = [gaussian_filter(each, sigma) if sigma else each for each in differences]
        maps.append(np.min(blurred, axis=0))
    agrees(method(images, categories), maps)


@pytest.mark.parametrize("squares", [3, 16])
def test_the_colour_knn_is_its_formula(squares):
    method = build(TrivialColourKNN, squares=squares)
    shots = {"nut": noise_images(3, 1), "pcb": noise_images(1, 2)}
    for category, seen in shots.items():
        method.adapt(seen, category)
    images, categories = noise_images(3, 0), ["nut", "pcb", "nut"]
    maps = []
    for image, category in zip(images, categories, strict=True):
        query = colours(image, squares)
        memory = np.concatenate([colours(shot, squares).reshape(-1, 6) for shot in shots[category]])
        maps.append(np.sqrt(((query[:, :, None] - memory) ** 2).sum(axis=-1)).min(axis=-1))
    agrees(method(images, categories), maps)


@pytest.mark.parametrize("kind", ALL)
def test_a_coloured_square_is_found_where_it_lies(kind):
    method = build(kind)
    method.adapt(flat(2, 1), "nut")
    images = flat(2, 0)
    images[1, 0, *SQUARE] += 0.3
    score, anomaly_map = method(images, ["nut", "nut"])
    assert score[1] > 3 * score[0]
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[SQUARE] = True
    at = torch.nn.functional.interpolate(anomaly_map[1][None, None], (64, 64)).flatten().argmax()
    assert inside.flatten()[at]


@pytest.mark.parametrize("kind", WITH_SHOTS)
def test_a_shot_is_not_anomalous_and_more_shots_never_raise_a_distance(kind):
    few, many = build(kind), build(kind)
    shots, images = noise_images(4, 1), noise_images(2, 0)
    few.adapt(shots[:1], "nut")
    many.adapt(shots, "nut")
    assert many(shots, ["nut"] * 4).anomaly_map.amax() == 0
    assert (many(images, ["nut"] * 2).anomaly_map <= few(images, ["nut"] * 2).anomaly_map).all()


@pytest.mark.parametrize("kind", WITH_SHOTS)
def test_shots_are_needed(kind):
    method = build(kind)
    with pytest.raises(ValueError, match=r"shots of 'nut' were seen; `adapt` has seen: none"):
        method(noise_images(1, 0), ["nut"])
    method.adapt(noise_images(1, 1), "pcb")
    with pytest.raises(ValueError, match=r"shots of 'nut' were seen; `adapt` has seen: pcb"):
        method(noise_images(2, 0), ["pcb", "nut"])


@pytest.mark.parametrize("squares", [0, 65])
def test_squares_fit_the_image(squares):
    with pytest.raises(ValueError, match=rf"squares must be 1 to 64, the side of the images in pixels; got {squares}"):
        build(TrivialColourOutlier, squares=squares)(noise_images(1, 0), ["nut"])
