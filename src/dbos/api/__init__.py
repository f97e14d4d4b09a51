"""What users import, by way of the package's own names."""
