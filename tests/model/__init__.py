"""Tests that compare the package with small models of its contract."""
