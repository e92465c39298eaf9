"""A threshold of normal scores keeps the rate that it promises, which an enumeration of ranks tells exactly."""

from fractions import Fraction

import pytest
from scipy.stats import percentileofscore

from benchmark.metrics.false_alarms import percentile, threshold

RATES = (0.001, 0.01, 0.05, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.9, 0.999)


@pytest.mark.parametrize("count", range(1, 12))
@pytest.mark.parametrize("rate", RATES)
def test_the_promised_rate_is_that_of_all_places_a_new_image_may_have(count, rate):
    """Of k + 1 images that come from one source each is equally likely to be the new one."""
    scores, limit = [float(n) for n in range(count + 1)], None
    exceeding = 0
    for new in scores:
        limit = threshold([score for score in scores if score != new], rate)
        exceeding += new > limit.value
    assert limit.promised == pytest.approx(float(Fraction(exceeding, count + 1)))
    assert limit.resolved == (rate >= limit.promised)
    assert limit.resolved == (rate >= 1 / (count + 1) - 1e-12)


@pytest.mark.parametrize("rate", RATES)
def test_no_lower_threshold_keeps_the_rate(rate):
    scores = [float(n) for n in range(40)]
    limit = threshold(scores, rate)
    below = [score for score in scores if score < limit.value]
    assert not below or (len(scores) + 1 - len(below)) / (len(scores) + 1) > rate


def test_too_few_images_give_their_highest_score_and_say_what_it_promises():
    limit = threshold([0.3, 0.1, 0.4, 0.2], 0.01)
    assert (limit.value, limit.promised, limit.asked, limit.resolved) == (0.4, 0.2, 0.01, False)


@pytest.mark.parametrize(("scores", "rate"), [([], 0.1), ([0.1], 0.0), ([0.1], 1.0), ([0.1], -1.0)])
def test_what_is_no_rate_is_refused(scores, rate):
    with pytest.raises(ValueError, match=r"a rate in \(0, 1\)"):
        threshold(scores, rate)


@pytest.mark.parametrize("score", [-1.0, 0.1, 0.2, 0.25, 0.9])
def test_percentiles_are_those_of_scipy(score):
    normal = [0.2, 0.1, 0.2, 0.3]
    assert percentile(score, normal) == pytest.approx(percentileofscore(normal, score, kind="mean"))
