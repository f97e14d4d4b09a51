"""Errors of a user's transaction keep their class, and lose the values in their texts."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError

from dbos.transactions.faults import without_values


def test_an_error_shows_neither_parameters_nor_the_row_in_question() -> None:
    driver = Exception("duplicate key\nDETAIL:  Key (id)=(secret-lamp) already exists.")
    error = IntegrityError("INSERT INTO goods", {"id": "secret-lamp"}, driver)

    assert "secret-lamp" in str(error)
    assert "secret-lamp" not in str(without_values(error))
    assert "duplicate key" in str(error)
