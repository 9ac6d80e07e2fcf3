"""Pieces come in order, the next one is made early and no other, and faults appear where they belong."""

from __future__ import annotations

import threading

import pytest

from latentomics.io.ahead import ahead


def test_pieces_come_in_order_made_in_a_thread() -> None:
    threads = set()
    assert list(ahead(lambda key: threads.add(threading.get_ident()) or key**2, range(5))) == [0, 1, 4, 9, 16]
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    assert list(ahead(str, [])) == []


def test_the_next_piece_is_made_while_the_caller_works_and_no_further_one() -> None:
    made = [threading.Event() for _ in range(4)]

    def make(key: int) -> int:
        made[key].set()
        return key

    for key in ahead(make, range(4)):
        for early in made[: key + 2]:
            assert early.wait(10)
        assert not any(late.is_set() for late in made[key + 2 :])


def test_a_fault_is_raised_where_its_piece_was_due() -> None:
    pieces = ahead(lambda key: 1 // key, [1, 0, 1])
    assert next(pieces) == 1
    with pytest.raises(ZeroDivisionError):
        next(pieces)


def test_a_caller_may_leave_early() -> None:
    before = threading.active_count()
    pieces = ahead(str, range(100))
    assert next(pieces) == "0"
    pieces.close()
    assert threading.active_count() == before
