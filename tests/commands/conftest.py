"""Fixtures of the tests of commands: those of the tests of waiting."""

from __future__ import annotations

from tests.behaviour.conftest import api, app, shop
from tests.waiting.conftest import verbs

__all__ = ["api", "app", "shop", "verbs"]
