"""Transactions of user code, and everything that touches SQLAlchemy. Imported late."""
