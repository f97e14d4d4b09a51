"""Seeded simulations: many executors on one database, on virtual time."""
