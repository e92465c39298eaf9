"""Token-wise inference (FineGrainedAD, arXiv:2510.26464): every feature is compared with the pair nearest to it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def log_token_wise_probability(features: Tensor, pairs: Tensor, keys: Tensor | None, scale: float) -> Tensor:
    """Logarithm of the probability of the anomalous text of the pair whose key is nearest by cosine.

    Args:
        features: unit features, (B, N, D).
        pairs: unit features of J pairs of texts for each image, (B, J, 2, D), row 0 normal.
        keys: unit keys of the pairs, (B, J, D); None takes the normal texts.
        scale: what the cosines are multiplied by.

    Returns:
        (B, N), at most 0.
    """
    cosines = (features @ pairs.flatten(1, 2).transpose(1, 2)).unflatten(2, (-1, 2))  # (B, N, J, 2)
    likeness = cosines[..., 0] if keys is None else features @ keys.transpose(1, 2)  # (B, N, J)
    chosen = likeness.argmax(dim=-1)[..., None, None].expand(-1, -1, 1, 2)
    logs: Tensor = (scale * cosines.gather(2, chosen).squeeze(2)).log_softmax(dim=-1)[..., 1]
    return logs


class UntrainedKeys(nn.Module):
    """Keys that are a random linear map of the pairs, and stay so.

    What is left of the released Q-Former: two cross-attentions, each prompt with one key to attend to, so that its
    attention is 1 and its queries are without effect, and no loss that would train it.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.normal = nn.Sequential(nn.Linear(dim, dim), nn.Linear(dim, dim))  # value and output of an attention
        self.anomalous = nn.Sequential(nn.Linear(dim, dim), nn.Linear(dim, dim))
        self.join = nn.Linear(2 * dim, dim)
        self.requires_grad_(False)

    def forward(self, pairs: Tensor) -> Tensor:
        """Unit keys (..., D) of pairs (..., 2, D)."""
        both = torch.cat([self.normal(pairs[..., 0, :]), self.anomalous(pairs[..., 1, :])], dim=-1)
        return F.normalize(self.join(both), dim=-1)
