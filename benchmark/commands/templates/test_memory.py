"""new_method keeps the promises of every method, and its numbers are those of a plain loop."""

import torch
import torch.nn.functional as F

from benchmark.contract.candidates import candidates, noise_images
from benchmark.contract.promises import check

NAME = "new_method"
CATEGORY = "metal_nut"


def test_keeps_every_promise() -> None:
    """Checks what `bench check` prints."""
    assert [outcome for outcome in check(NAME) if outcome.problem] == []


def test_equals_a_plain_loop() -> None:
    """Another way to the same numbers: each patch beside each patch of the shots."""
    (candidate, *_) = candidates(NAME)
    method = candidate.build([CATEGORY])
    shots, images = noise_images(2, seed=1), noise_images(3, seed=2)
    method.adapt(shots, CATEGORY)
    score, maps = method(images, [CATEGORY] * 3)
    block = method.backbone.n_image_blocks // 2
    both = method.backbone.encode_image(torch.cat([shots, images]), taps=(block,)).taps[0]  # (2 + 3, N, width)
    remembered, seen = both[:2].flatten(0, 1), both[2:]
    for i, tokens in enumerate(seen):
        distances = [min(1 - F.cosine_similarity(token, other, dim=0) for other in remembered) for token in tokens]
        expected = torch.stack(distances).view(maps[i].shape)
        torch.testing.assert_close(maps[i], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(score[i], expected.max(), rtol=1e-4, atol=1e-5)
