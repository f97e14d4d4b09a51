"""Tests of stored payloads."""
