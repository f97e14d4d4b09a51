"""What the orders of the transaction storm are, known to its worker and to its judge."""

from __future__ import annotations

PARTS = 3
AMOUNT = 5


def order_id(seat: int, number: int) -> str:
    return f"order-{seat}-{number}"


def payments_of(seats: int, orders: int) -> set[tuple[str, int]]:
    """Every payment that must be there in the end, once."""
    return {
        (order_id(seat, number), part)
        for seat in range(seats)
        for number in range(orders)
        for part in range(PARTS)
    }
