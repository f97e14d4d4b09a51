"""Tests of the documentation: it runs as written, and its claims hold."""
