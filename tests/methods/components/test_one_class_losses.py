"""The losses of prompts that see normal images alone, by hand."""

import torch
from torch.testing import assert_close

from methods.components.one_class_losses import alignment, anomaly_margin, normal_contrast


def test_contrast_by_hand():
    normal, anomalous = torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    features = torch.tensor([[[0.6, 0.8], [1.0, 0.0]]])  # (B = 1, N = 2, D)
    logits = torch.tensor([[1.2, 1.6, -1.2], [2.0, 0.0, -2.0]])  # twice the cosines
    expected = (logits.exp().sum(dim=1).log() - logits[:, 0]).mean()
    assert_close(normal_contrast(features, normal, anomalous, 2.0), expected)


def test_margin_by_hand():
    """Squared distances 0.8 and 0.4 to the first image, 0 and 2 to the second."""
    normal, anomalous = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    features = torch.tensor([[[0.6, 0.8]], [[1.0, 0.0]]])  # (B = 2, N = 1, D)
    assert_close(anomaly_margin(features, normal, anomalous, 0.0), torch.tensor((0.4 + 0) / 2))
    assert_close(anomaly_margin(features, normal, anomalous, 2.5), torch.tensor((2.9 + 0.5) / 2))


def test_margin_summed_over_tokens_is_one_hinge_for_each_channel():
    normal, anomalous = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    features = torch.tensor([[[0.6, 0.8], [1.0, 0.0]]])  # (B = 1, N = 2, D)
    near, far = torch.tensor([0.16, 0.64]), torch.tensor([0.36 + 1.0, 0.04 + 1.0])  # of each channel
    assert_close(anomaly_margin(features, normal, anomalous, 0.5, dim=1), (near - far + 0.5).clamp(min=0).mean())


def test_no_gradient_where_the_anomalous_prototype_is_far_enough():
    normal = torch.tensor([1.0, 0.0], requires_grad=True)
    anomaly_margin(torch.tensor([[1.0, 0.0]]), normal, torch.tensor([0.0, 1.0]), 1.9).backward()
    assert normal.grad.tolist() == [0.0, 0.0]


def test_alignment_compares_means_of_unit_vectors():
    manual, learnt = torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([[5.0, 0.0]])
    assert_close(alignment(manual, learnt), torch.tensor(0.5**2 + 0.5**2))
