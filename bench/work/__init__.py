"""The measured programs, one a file: each runs unchanged on either package."""
