"""The published examples this project started from, run exactly as printed."""
