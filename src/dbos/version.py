"""The version of this package; the build reads it from here."""

PACKAGE_VERSION = "0.1.0"
