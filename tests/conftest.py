"""What all tests share: hypothesis draws the same examples on every run, without a deadline; the two storeys."""

import helpers
import hypothesis
import pytest
import storeys

hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(params=storeys.STOREYS, ids=repr)
def lib(request):
    """The operations of reference.py, then those of the engine: the test runs on both storeys."""
    return request.param


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are saved as files of one word: drawing takes half of the time of a small training with the command."""
    helpers.save_undrawn(monkeypatch)
