import logging

from mainspring.core.seldom import Seldom


def test_a_kind_of_warning_comes_once_in_a_while_and_then_says_how_often_it_was_left_out():
    now_s = [0.0]
    seldom = Seldom(60.0, lambda: now_s[0])
    seen = []

    def tell(text, *args, level=logging.WARNING):
        record = logging.LogRecord("x", level, "x.py", 1, text, args, None)
        if seldom.filter(record):
            seen.append(record.getMessage())

    for i in range(5):
        tell("gone, tried %d times", i)
    tell("full")
    tell("gone, tried %d times", 5, level=logging.ERROR)
    now_s[0] = 59.9
    tell("gone, tried %d times", 6)
    now_s[0] = 60.0
    tell("gone, tried %d times", 7)
    assert seen == [
        "gone, tried 0 times",
        "full",
        "gone, tried 5 times",
        "gone, tried 7 times (5 more like it were left out)",
    ]


def test_what_it_remembers_is_bounded():
    seldom = Seldom()
    for i in range(1_000):
        assert seldom.filter(logging.LogRecord("x", logging.WARNING, "x.py", 1, f"text {i}", (), None))
    assert len(seldom._kinds) <= 100
