"""Tests that crash workflows at every effect."""
