"""Every method that learns says what its loss is made of, and a fit logs it."""

import pytest

from tests.methods.test_devices import FITTED, training_batch, words

TERMS = {  # by method, as its paper has them
    "anomalyclip": {"focal", "dice_anomalous", "dice_normal", "image_ce"},
    "anople": {"dice", "focal", "image", "alignment", "anomalous"},
    "finegrainedad": {"seg"},
    "promptad": {f"{head}.{term}" for head in ("cls", "seg") for term in ("contrast", "margin", "alignment")},
}


@pytest.mark.slow
@pytest.mark.parametrize("candidate", FITTED, ids=words)
def test_terms_of_the_last_loss_are_logged(candidate):
    method, logged = candidate.prepare().train(), {}
    method.log_dict = lambda values, **settings: logged.update(values)
    batch = training_batch(method)
    loss = method.training_step(batch, 0)
    assert method.terms
    assert TERMS.get(candidate.name, method.terms.keys()) == method.terms.keys()
    assert logged == {"train/loss": loss} | {f"train/{name}": term for name, term in method.terms.items()}
    for term in method.terms.values():
        assert (term.shape, term.requires_grad) == ((), False)
        assert term.isfinite()
