"""Tests of the commands: what steers workflows by their ids."""
