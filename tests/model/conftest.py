"""Fixtures of the model tests: an application on each database."""

from __future__ import annotations

from tests.behaviour.conftest import app, shop

__all__ = ["app", "shop"]
