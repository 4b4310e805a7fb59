"""What was sent is compared by ids with what is there."""

import polars as pl

from mainspring.demo.account import Account, reconcile


def test_lost_doubled_and_strange_events_are_told_apart() -> None:
    found = reconcile("arrived", {"a", "b", "c"}, pl.DataFrame({"_id": ["a", "b", "b", "x"]}))
    assert (found.lost, found.twice, found.strange) == (1, 1, 1)


def test_equal_counts_of_other_ids_are_no_match() -> None:
    found = reconcile("arrived", {"a", "b"}, pl.DataFrame({"_id": ["a", "c"]}))
    assert (found.lost, found.strange) == (1, 1)


def test_the_book_balances_only_when_every_event_was_answered() -> None:
    account = Account()
    account.take("arrived", ["a", "b", "c"], {"accepted": 1, "duplicate": 1, "quarantined": 1})
    assert account.balances
    account.sent["arrived"] += 1
    assert not account.balances
