"""Fixtures of the tests of debouncing: those of the behaviour tests."""

from __future__ import annotations

from tests.behaviour.conftest import api, app, shop

__all__ = ["api", "app", "shop"]
