"""Orders and reports arrive as they were sent, or not at all."""

from __future__ import annotations

import os
import socket

from hypothesis import given
from hypothesis import strategies as st

from fleetprompt_agent.steps import orders

WORDS = st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"."))


@given(
    path=WORDS,
    argv=st.lists(WORDS, min_size=1, max_size=5),
    env=st.lists(WORDS.map(lambda word: b"N=" + word), max_size=5),
    grace_s=st.floats(0, 1e6),
)
def test_a_spawn_survives_its_journey(
    path: bytes, argv: list[bytes], env: list[bytes], grace_s: float
) -> None:
    spawn = orders.Spawn(path, argv, env, grace_s)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(spawn.encode())
        order = orders.read_order(theirs)

    assert order is not None
    assert order.kind == orders.SPAWN
    assert orders.Spawn.decode(order.payload) == spawn


@given(
    started=st.booleans(),
    stopped=st.booleans(),
    status=st.integers(-(2**31), 2**31 - 1),
    cpu_us=st.integers(0, 2**64 - 1),
    max_rss_kb=st.integers(0, 2**64 - 1),
    survivors=st.integers(0, 2**32 - 1),
)
def test_a_report_survives_its_journey(
    started: bool, stopped: bool, status: int, cpu_us: int, max_rss_kb: int, survivors: int
) -> None:
    report = orders.Report(started, stopped, status, cpu_us, max_rss_kb, survivors)

    assert orders.Report.decode(report.encode()) == report
    assert len(report.encode()) == orders.REPORT_BYTES


@given(st.integers(0, 2**32 - 1))
def test_a_hello_survives_its_journey(pid: int) -> None:
    assert orders.decode_hello(orders.encode_hello(pid)) == pid
    assert len(orders.encode_hello(pid)) == orders.HELLO_BYTES


def test_descriptors_come_with_their_order_and_are_not_inherited() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(ours, [orders.encode_keeper()], [0, 1])
        order = orders.read_order(theirs)

    assert order is not None
    assert order.kind == orders.KEEPER
    assert [os.get_inheritable(fd) for fd in order.descriptors] == [False, False]
    for fd in order.descriptors:
        os.close(fd)


def test_orders_that_arrive_together_are_read_one_by_one() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(orders.encode_stop(0.5) + orders.encode_stop(2))
        graces = []
        for _ in range(2):
            order = orders.read_order(theirs)
            assert order is not None
            graces.append(orders.decode_stop(order.payload))

    assert graces == [0.5, 2]


@given(cut=st.integers(0, 30))
def test_the_end_of_the_stream_is_the_end_wherever_it_comes(cut: int) -> None:
    whole = orders.Spawn(b"/bin/true", [b"true"], [b"A=1"], 2).encode()
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(whole[: min(cut, len(whole) - 1)])
        assert orders.read_order(theirs) is None
