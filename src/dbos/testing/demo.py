"""The demonstration: a program is killed in the middle of its work, and still finishes it.

    python -m dbos.testing.demo

This file plays both parts. With `shop DIRECTORY` it is the shop: an ordinary program with one
durable workflow. Without arguments it is the audience: it starts the shop as a process of its own,
kills it with SIGKILL, starts it again, and checks the shop's books.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dbos import DBOS, SetWorkflowID

ORDER_ID = "order-42"
STEPS = ("reserve_stock", "charge_card", "print_label", "call_courier", "send_receipt")
KILL_DURING = ("charge_card", "call_courier")


@DBOS.step()
def reserve_stock(item: str) -> str:
    work("reserve_stock")
    return f"the last {item} in stock"


@DBOS.step()
def charge_card(amount: int) -> str:
    work("charge_card")
    return f"{amount} euros"


@DBOS.step()
def print_label(item: str) -> str:
    work("print_label")
    return f"label for {item}"


@DBOS.step()
def call_courier(label: str) -> str:
    work("call_courier")
    return f"courier with {label}"


@DBOS.step()
def send_receipt(payment: str, shipment: str) -> str:
    work("send_receipt")
    return f"{payment} paid, {shipment} on the way"


@DBOS.workflow()
def fulfil(item: str, amount: int) -> str:
    """Plain Python. Each step is recorded when it is done, and then never runs again."""
    reserved = reserve_stock(item)
    payment = charge_card(amount)
    label = print_label(reserved)
    shipment = call_courier(label)
    return send_receipt(payment, shipment)


def run_shop(directory: Path) -> None:
    """Fulfil the order. After a restart, the same call finds the same workflow, and awaits it."""
    os.chdir(directory)
    DBOS(config={"name": "demo-shop", "log_level": "WARNING"})
    DBOS.launch()
    with SetWorkflowID(ORDER_ID):
        order = DBOS.start_workflow(fulfil, "telescope", 80)
    print(order.get_result())
    DBOS.destroy()


def work(step: str) -> None:
    """What a step does to the world: after some time, a line in the books of the shop."""
    write_in_books("begins", step)
    time.sleep(0.3)
    write_in_books("done", step)


def write_in_books(event: str, step: str) -> None:
    """Straight to the disk, outside any database: nothing can take it back."""
    with open("books.txt", "a") as books:
        books.write(f"{os.getpid()} {event} {step}\n")
        books.flush()
        os.fsync(books.fileno())


def run_audience() -> bool:
    """Tell what happens as it happens; whether everything was as promised."""
    print(f"A shop fulfils {ORDER_ID} in {len(STEPS)} steps. We kill it twice on the way.\n")
    with tempfile.TemporaryDirectory(prefix="perdure-demo-") as place:
        directory = Path(place)
        for step in KILL_DURING:
            watch(start_shop(directory), directory, kill_during=step)
        last = start_shop(directory)
        watch(last, directory)
        result, _ = last.communicate()
        return report(read_books(directory), result.strip())


def start_shop(directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "dbos.testing.demo", "shop", str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def watch(shop: subprocess.Popen[str], directory: Path, kill_during: str | None = None) -> None:
    """Print what the shop writes in its books, until it ends, or is killed in the given step."""
    print(f"process {shop.pid} starts")
    for event, step in events_of(shop, directory):
        if event == "done":
            print(f"    {step:<14} done")
        elif step == kill_during:
            print(f"    {step:<14} begins ... kill -9\n")
            shop.kill()
            shop.communicate()
            return


def events_of(shop: subprocess.Popen[str], directory: Path) -> Iterator[tuple[str, str]]:
    """What this process writes in the books, as soon as it does."""
    told = 0
    is_running = True
    while is_running:
        # Looked at in this order, nothing that was written before the end is missed.
        is_running = shop.poll() is None
        lines = [line for line in read_books(directory) if line[0] == str(shop.pid)]
        for _, event, step in lines[told:]:
            yield event, step
        told = len(lines)
        time.sleep(0.01)


def read_books(directory: Path) -> list[tuple[str, str, str]]:
    """Process, event and step of each complete line."""
    books = directory / "books.txt"
    written = books.read_text() if books.exists() else ""
    entries: list[tuple[str, str, str]] = []
    for line in written[: written.rfind("\n") + 1].splitlines():
        process, event, step = line.split()
        entries.append((process, event, step))
    return entries


def report(books: list[tuple[str, str, str]], result: str) -> bool:
    """Print the balance; whether each step was done once, in order, and the result is right."""
    done: list[str] = []
    cut_off, run_again = -len(STEPS), 0
    for _, event, step in books:
        if event == "done":
            done.append(step)
        else:
            cut_off += 1
            run_again += step in done
    expected = "80 euros paid, courier with label for the last telescope in stock on the way"
    is_right = done == list(STEPS) and run_again == 0 and result == expected
    print(f"\nresult: {result}\n")
    print(f"    processes killed              {len(KILL_DURING)}")
    print(f"    steps cut off and begun again {cut_off}")
    print(f"    steps done                    {len(done)} of {len(STEPS)}")
    print(f"    recorded steps run again      {run_again}")
    print(f"\n{'Everything checks.' if is_right else 'THIS IS WRONG. Please report it.'}")
    return is_right


if __name__ == "__main__":
    if sys.argv[1:2] == ["shop"]:
        run_shop(Path(sys.argv[2]))
    else:
        sys.exit(0 if run_audience() else 1)
