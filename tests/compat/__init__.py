"""Tests beside the reference: one database that is opened by either, in turns."""
