"""Token-wise inference against a loop over features."""

import torch
import torch.nn.functional as F
from torch.testing import assert_close

from methods.finegrainedad.token_wise import log_token_wise_probability


def test_each_feature_is_judged_by_the_nearest_pair():
    generator = torch.Generator().manual_seed(0)
    features = F.normalize(torch.randn(2, 5, 8, generator=generator), dim=-1)
    pairs = F.normalize(torch.randn(2, 3, 2, 8, generator=generator), dim=-1)
    keys = F.normalize(torch.randn(2, 3, 8, generator=generator), dim=-1)
    for given in (None, keys):
        found = log_token_wise_probability(features, pairs, given, scale=4.6)
        for image in range(2):
            for token, feature in enumerate(features[image]):
                compared = pairs[image, :, 0] if given is None else keys[image]
                nearest = max(range(3), key=lambda j: (feature @ compared[j]).item())
                logits = 4.6 * pairs[image, nearest] @ feature
                assert_close(found[image, token], logits.log_softmax(dim=0)[1])
