"""Web frameworks around the facade. Each module is imported when its framework is given."""
