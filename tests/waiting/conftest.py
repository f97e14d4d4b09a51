"""Fixtures of the tests of waiting: those of the behaviour tests, and the verbs of a flavour."""

from __future__ import annotations

import pytest

from tests.behaviour.conftest import api, app, shop
from tests.behaviour.flavours import Flavour
from tests.waiting.verbs import Verbs

__all__ = ["api", "app", "shop", "verbs"]


@pytest.fixture
def verbs(api: Flavour) -> Verbs:
    """The verbs of the facade, for scenarios of either flavour."""
    return Verbs(api)
