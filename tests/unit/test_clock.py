"""Ids, the clock since boot, and the proof that a process is dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from dbos.clock import HostIdentity, boot_clock_ms, boot_id, new_id, new_token

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells boots and namespaces"
)


def test_ids_are_random_uuids() -> None:
    ids = {new_id() for _ in range(2000)}

    assert len(ids) == 2000
    assert all(str(uuid.UUID(text)) == text for text in ids)
    assert all(uuid.UUID(text).version == 4 for text in ids)
    assert all(uuid.UUID(text).variant == uuid.RFC_4122 for text in ids)


def test_tokens_are_random_hexadecimal_digits() -> None:
    tokens = {new_token() for _ in range(2000)}

    assert len(tokens) == 2000
    assert all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)


@on_linux
def test_all_processes_of_a_boot_agree_on_its_id_and_clock() -> None:
    script = "from dbos.clock import *; print(boot_id(), boot_clock_ms())"

    before = boot_clock_ms()
    output = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.split()
    after = boot_clock_ms()

    assert before is not None
    assert after is not None
    assert output[0] == boot_id()
    assert before <= int(output[1]) <= after


@on_linux
def test_the_clock_since_boot_counts_milliseconds() -> None:
    first = boot_clock_ms()
    begin = time.monotonic()
    while time.monotonic() - begin < 0.02:
        pass
    second = boot_clock_ms()

    assert first is not None
    assert second is not None
    assert 20 <= second - first + 1 < 10_000


@on_linux
def test_this_process_is_not_dead() -> None:
    me = HostIdentity.current()

    assert me.pid == os.getpid()
    assert me.host.startswith(f"{boot_id()}/")
    assert me.process_started.isdigit()
    assert not me.is_provably_dead(me.host, me.pid, me.process_started)


@on_linux
def test_a_process_that_ended_is_dead() -> None:
    me = HostIdentity.current()
    with running_child() as child:
        peer = identity_of(child)
        alive = me.is_provably_dead(peer.host, peer.pid, peer.process_started)
        child.kill()
        child.wait()

    assert not alive
    assert me.is_provably_dead(peer.host, peer.pid, peer.process_started)


@on_linux
def test_a_killed_process_that_nobody_waited_for_is_dead() -> None:
    me = HostIdentity.current()
    with running_child() as child:
        peer = identity_of(child)
        child.kill()
        # Wait for its end without reaping it, so that its pid stays as a zombie.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert me.is_provably_dead(peer.host, peer.pid, peer.process_started)


@on_linux
def test_a_pid_that_somebody_else_has_now_is_dead() -> None:
    me = HostIdentity.current()

    assert me.is_provably_dead(me.host, me.pid, "1")


@on_linux
def test_nothing_is_proven_without_a_start_time_while_the_pid_is_taken() -> None:
    me = HostIdentity.current()

    assert not me.is_provably_dead(me.host, me.pid, "")


@on_linux
@pytest.mark.parametrize("pid", [0, -1, 2**31, 2**80])
def test_nothing_is_proven_about_a_number_that_is_no_pid(pid: int) -> None:
    me = HostIdentity.current()

    assert not me.is_provably_dead(me.host, pid, "1")


def test_nothing_is_proven_about_another_host() -> None:
    me = HostIdentity.current()
    elsewhere = replace(me, host="other-boot/pid:[1]")

    assert not me.is_provably_dead(elsewhere.host, 2**22 + 1, "1")


@on_linux
def test_a_leader_that_ended_before_its_threads_is_alive() -> None:
    script = (
        "import ctypes, sys, threading\n"
        "def work():\n"
        "    print('ready', flush=True)\n"
        "    sys.stdin.read()\n"
        "threading.Thread(target=work).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    me = HostIdentity.current()
    with running_child(script) as child:
        peer = identity_of(child)

        assert not me.is_provably_dead(peer.host, peer.pid, peer.process_started)


def identity_of(child: subprocess.Popen[str]) -> HostIdentity:
    with open(f"/proc/{child.pid}/stat") as file:
        started = file.read().rpartition(")")[2].split()[19]
    return HostIdentity(HostIdentity.current().host, child.pid, started)


@contextmanager
def running_child(
    script: str = "print('ready', flush=True); input()",
) -> Iterator[subprocess.Popen[str]]:
    """A process that runs until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            yield child
        finally:
            child.kill()
