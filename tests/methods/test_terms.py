"""Every method that learns says what its loss is made of, and a fit logs it."""

import pytest

from benchmark.contract import candidates, promises
from benchmark.request import registry

FITTED = [
    each
    for name in registry.names("method")
    if registry.method(name).fits_on != "nothing"
    for each in candidates.candidates(name)[:1]
]
TERMS = {  # by method, as its paper has them
    "anomalyclip": {"focal", "dice_anomalous", "dice_normal", "image_ce"},
    "anople": {"dice", "focal", "image", "alignment", "anomalous"},
    "finegrainedad": {"seg"},  # one head unless `cls` is asked for
    "promptad": {f"{head}.{term}" for head in ("cls", "seg") for term in ("contrast", "margin", "alignment")},
}


@pytest.mark.slow
@pytest.mark.parametrize("candidate", FITTED, ids=lambda each: each.name)
def test_terms_of_the_last_loss_are_logged(candidate):
    method, logged = candidate.prepare().train(), {}
    method.log_dict = lambda values, **settings: logged.update(values)
    loss = method.training_step(promises._training_batch(method), 0)
    assert bool(method.terms) == hasattr(method, "loss_terms")
    assert TERMS.get(candidate.name, method.terms.keys()) == method.terms.keys()
    assert logged == {"train/loss": loss} | {f"train/{name}": term for name, term in method.terms.items()}
    for term in method.terms.values():
        assert (term.shape, term.requires_grad) == ((), False)
        assert term.isfinite()
