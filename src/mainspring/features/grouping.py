"""Rows brought together by key, and each key's rows into order, at the speed of memory.

Rows are dealt into buckets by a hash of their key's *word* (an int64 that names the key), in parallel over chunks of
rows; then each bucket, small enough for the processor's own cache, numbers its keys with a hash table and finds each
row's final place, in parallel over buckets. Columns follow in the same two steps. Both are stable, so rows that come in
order stay in order; a key whose rows do not is merge-sorted alone.
"""

from __future__ import annotations

import numpy as np

from mainspring.features.compiled import compiled

_RI, _RF = "Array(int64, 1, 'C', readonly=True)", "Array(float64, 1, 'C', readonly=True)"
_I, _I2, _U = "int64[::1]", "int64[:, ::1]", "uint32[::1]"
_F, _F2 = "float64[::1]", "float64[:, ::1]"


@compiled("uint64(int64)", allocates=False)
def mixed(word: int) -> np.uint64:
    """The 64 bits of a word, mixed one to one (the finaliser of MurmurHash3): different words stay different."""
    h = np.uint64(word)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> np.uint64(33))


@compiled("uint64(uint64, uint64)", allocates=False)
def bucket_of(h: np.uint64, buckets: np.uint64) -> np.uint64:
    """Which of up to 2^32 buckets a hash falls into, by its upper half."""
    return ((h >> np.uint64(32)) * buckets) >> np.uint64(32)


@compiled(f"int64({_RI}, {_RI}, {_RI}, int64, int64)", allocates=False)
def order_of(times: np.ndarray, knowns: np.ndarray, offsets: np.ndarray, first: int, after: int) -> int:
    """Bits: 1 if rows ``first`` to ``after`` rise by (time, known_at, offset), 2 if each is known at its own time."""
    rising, same = True, True
    for i in range(max(first, 1), after):
        t, u = times[i - 1], times[i]
        if u <= t:
            later = knowns[i] > knowns[i - 1] or (knowns[i] == knowns[i - 1] and offsets[i] >= offsets[i - 1])
            rising = rising and u == t and later
    for i in range(first, after):
        same = same and knowns[i] == times[i]
    return (1 if rising else 0) + (2 if same else 0)


@compiled(f"void({_RI}, int64, int64, {_I})", allocates=False)
def count_buckets(words: np.ndarray, first: int, after: int, counts: np.ndarray) -> None:
    """How many of the rows ``first`` to ``after`` fall into each bucket."""
    buckets = np.uint64(counts.shape[0])
    for i in range(first, after):
        counts[bucket_of(mixed(words[i]), buckets)] += 1


@compiled(f"void({_RI}, int64, int64, {_I}, {_U}, {_I})", allocates=False)
def deal(words: np.ndarray, first: int, after: int, place: np.ndarray, dealt: np.ndarray, out: np.ndarray) -> None:
    """Deal the words of the rows ``first`` to ``after`` into buckets.

    Args:
        words: int64[n].
        first: First row of the chunk.
        after: The row after its last.
        place: int64[buckets], where this chunk's first row of each bucket goes; used up.
        dealt: uint32[n], to hold where each row went.
        out: int64[n], to hold the words, bucket after bucket.
    """
    buckets = np.uint64(place.shape[0])
    for i in range(first, after):
        b = bucket_of(mixed(words[i]), buckets)
        to = place[b]
        place[b] = to + 1
        dealt[i] = to
        out[np.uint64(to)] = words[i]


@compiled(f"void({_RI}, int64, int64, {_U}, {_I})", allocates=False)
def send(column: np.ndarray, first: int, after: int, dealt: np.ndarray, out: np.ndarray) -> None:
    """Send the rows ``first`` to ``after`` of a column to their places."""
    for i in range(first, after):
        out[dealt[i]] = column[i]


@compiled(f"void({_RF}, int64, int64, {_U}, {_F})", allocates=False)
def send_numbers(column: np.ndarray, first: int, after: int, dealt: np.ndarray, out: np.ndarray) -> None:
    """As ``send``, for values of a view: what is not finite becomes NaN, −0.0 becomes 0.0."""
    for i in range(first, after):
        x = column[i]
        out[dealt[i]] = x + 0.0 if abs(x) < np.inf else np.nan


@compiled(f"int64[::1]({_I}, int64, uint64)")
def table_of(keys: np.ndarray, n: int, size: int) -> np.ndarray:
    """A hash table of ``n`` different keys: their numbers, −1 where nothing is; ``size`` is a power of two."""
    table = np.full(size, -1, np.int64)
    for code in range(n):
        at = mixed(keys[code]) & (size - np.uint64(1))
        while table[at] >= 0:
            at = (at + np.uint64(1)) & (size - np.uint64(1))
        table[at] = code
    return table


@compiled(f"int64({_RI}, {_U}, {_I}, {_I})")
def number(words: np.ndarray, place: np.ndarray, keys: np.ndarray, starts: np.ndarray) -> int:
    """Number the keys of a bucket in the order of their first rows, and find where each row goes.

    Args:
        words: int64[n], of the bucket.
        place: uint32[n], to hold the place of each row, key after key.
        keys: int64[n], to hold the words of the keys.
        starts: int64[n + 1], to hold the first place of each key, and the end.

    Returns:
        How many keys there are.
    """
    size = np.uint64(1024)
    table = np.full(1024, -1, np.int64)
    n = 0
    for row in range(words.shape[0]):
        word = words[row]
        at = mixed(word) & (size - np.uint64(1))
        code = table[at]
        while code >= 0 and keys[np.uint64(code)] != word:
            at = (at + np.uint64(1)) & (size - np.uint64(1))
            code = table[at]
        if code < 0:
            code = n
            n += 1
            table[at] = code
            keys[code] = word
            starts[code] = 0
            if np.uint64(2 * n) > size:
                size *= np.uint64(4)
                table = table_of(keys, n, size)
        starts[np.uint64(code)] += 1
        place[row] = code
    total = 0
    for code in range(n):
        count = starts[code]
        starts[code] = total
        total += count
    for row in range(words.shape[0]):
        code = np.uint64(place[row])
        place[row] = starts[code]
        starts[code] += 1
    for code in range(n, 0, -1):  # each stands at its end now, which is where the next begins
        starts[code] = starts[code - 1]
    starts[0] = 0
    return n


@compiled(f"void({_I}, int64, {_RI}, {_I})")
def look_up(keys: np.ndarray, n: int, words: np.ndarray, codes: np.ndarray) -> None:
    """The number of each word among the first ``n`` keys, or ``n``, into ``codes``."""
    size = np.uint64(2)
    while size < np.uint64(2 * n):
        size *= np.uint64(2)
    table = table_of(keys, n, size)
    for row in range(words.shape[0]):
        at = mixed(words[row]) & (size - np.uint64(1))
        code = table[at]
        while code >= 0 and keys[np.uint64(code)] != words[row]:
            at = (at + np.uint64(1)) & (size - np.uint64(1))
            code = table[at]
        codes[row] = code if code >= 0 else n


@compiled(f"void({_I}, {_U}, {_I}, int64, int64)", allocates=False)
def settle(dealt: np.ndarray, place: np.ndarray, out: np.ndarray, first: int, after: int) -> None:
    """Bring the rows ``first`` to ``after`` of a bucket's column to their places."""
    for row in range(np.uint64(first), np.uint64(after)):
        out[place[row]] = dealt[row]


@compiled(f"boolean({_I2}, int64, int64)", allocates=False)
def comes_before(rows: np.ndarray, a: int, b: int) -> bool:
    """Whether column ``a`` comes before column ``b`` by the first three rows."""
    if rows[0, a] != rows[0, b]:
        return bool(rows[0, a] < rows[0, b])
    if rows[1, a] != rows[1, b]:
        return bool(rows[1, a] < rows[1, b])
    return bool(rows[2, a] < rows[2, b])


@compiled(f"void({_I2}, {_I}, int64, int64)")
def sort_keys(rows: np.ndarray, starts: np.ndarray, first: int, after: int) -> None:
    """Sort the columns of int64[R, n], those of each of the keys ``first`` to ``after`` alone, by rows 0, 1, 2; stable.

    Merges runs, so that what is nearly in order is done in nearly one pass.
    """
    order = np.empty(0, np.int64)
    other = np.empty(0, np.int64)
    for key in range(first, after):
        low, high = starts[key], starts[key + 1]
        sorted_ = True
        for i in range(low + 1, high):
            if comes_before(rows, i, i - 1):
                sorted_ = False
                break
        if sorted_:
            continue
        n = high - low
        if order.shape[0] < n:
            order, other = np.empty(n, np.int64), np.empty(n, np.int64)
        for i in range(n):  # runs of 16 by insertion
            at = i
            while at & 15 and comes_before(rows, low + i, low + order[at - 1]):
                order[at] = order[at - 1]
                at -= 1
            order[at] = i
        width = 16
        while width < n:
            for begin in range(0, n, 2 * width):
                middle, end = min(begin + width, n), min(begin + 2 * width, n)
                a, b, to = begin, middle, begin
                if middle == end or not comes_before(rows, low + order[middle], low + order[middle - 1]):
                    other[begin:end] = order[begin:end]
                    continue
                while a < middle and b < end:
                    if comes_before(rows, low + order[b], low + order[a]):
                        other[to] = order[b]
                        b += 1
                    else:
                        other[to] = order[a]
                        a += 1
                    to += 1
                for i in range(a, middle):
                    other[to] = order[i]
                    to += 1
                for i in range(b, end):
                    other[to] = order[i]
                    to += 1
            order, other = other, order
            width *= 2
        for row in range(rows.shape[0]):
            for i in range(n):
                other[i] = rows[row, low + order[i]]
            for i in range(n):
                rows[row, low + i] = other[i]


@compiled(f"void({_F2}, uint8[:, ::1], {_U}, int64, int64)")
def answer_rows(out: np.ndarray, status: np.ndarray, places: np.ndarray, first: int, after: int) -> None:
    """Bring answers from the ``places`` where they are to the moments' own rows, for the slots ``first`` to ``after``.

    One slot at a time, so that what is read at random places stays in the processor's cache.
    """
    n = places.shape[0]
    values, codes = np.empty(n, np.float64), np.empty(n, np.uint8)
    for slot in range(first, after):
        values[:] = out[slot]
        codes[:] = status[slot]
        for row in range(np.uint64(n)):
            out[slot, row] = values[np.uint64(places[row])]
        for row in range(np.uint64(n)):
            status[slot, row] = codes[np.uint64(places[row])]
