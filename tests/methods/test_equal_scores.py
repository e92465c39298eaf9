"""A fitted method scores an image equally within 1e-6 in a batch of any size and on 1 or 2 threads; maps within 1e-5.

Maps of APRIL-GAN are sums of four layers whose logits are a hundred times a similarity; they differ by 4e-6.
"""

import pytest
import torch

from benchmark.contract import candidates
from benchmark.execution.data import open_data, target
from benchmark.execution.run_cell import predict_tests
from benchmark.request import registry

EVERY = [
    each
    for name in registry.names("method")
    if registry.method(name).module.startswith("methods.")
    for each in candidates.candidates(name)
]


@pytest.mark.slow
@pytest.mark.parametrize("candidate", EVERY, ids=lambda each: f"{each.name}-{each.protocol}")
def test_batches_and_threads_change_no_score(candidate, tmp_path):
    cell = candidates.small_cell(candidate, str(tmp_path))
    data, method = candidates._begin(cell, tmp_path)
    candidates.fit(method, cell, data, torch.device("cpu"), candidates.NOBODY)
    threads, seen = torch.get_num_threads(), {}
    try:
        for batch_size in (1, 2, 4):
            for count in (1, 2):
                torch.set_num_threads(count)
                again = open_data(target(cell), candidates.SIZE, batch_size=batch_size)
                kept = predict_tests(method, again, candidates.SEEN_AT, torch.device("cpu"))
                seen[batch_size, count] = candidates.by_content(cell, tmp_path, kept)
    finally:
        torch.set_num_threads(threads)
    one = seen.pop((1, 1))
    for how, other in seen.items():
        for file, (score, anomaly_map) in one.items():
            assert (other[file][0] - score).abs() < 1e-6, how
            assert (other[file][1] - anomaly_map).abs().max() < 1e-5, how
