"""Which of many hashes are surely not in a set: a Bloom filter whose bits for one hash lie in one word.

12 bits a hash, four of them set: about one stranger in a hundred passes (blocked Bloom filters: Putze, Sanders and
Singler, 2007). There are no false noes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BITS = 12
_SHIFTS = (0, 6, 12, 18)


class Probe(NamedTuple):
    """What a sieve of any size is asked about hashes: where their word is, and which of its bits are theirs."""

    where: NDArray[np.uint64]
    bits: NDArray[np.uint64]

    @classmethod
    def of(cls, hashes: NDArray[np.uint64]) -> Probe:
        """Of 64 bits each."""
        import numpy as np

        shifts = np.array(_SHIFTS, np.uint64)[:, None]
        bits = np.bitwise_or.reduce(np.uint64(1) << ((hashes >> shifts) & np.uint64(63)))
        return cls(hashes >> np.uint64(32), bits)


class Sieve:
    """The filter of one set.

    Attributes:
        words: Its bits, uint64[n].
    """

    __slots__ = ("words",)

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self.words = words

    @classmethod
    def empty(cls, size: int) -> Sieve:
        """For a set that will have ``size`` hashes."""
        import numpy as np

        return cls(np.zeros(max(1, -(-size * _BITS // 64)), np.uint64))

    def add(self, hashes: NDArray[np.uint64]) -> None:
        """Let hashes pass; a second time changes nothing."""
        import numpy as np

        probe = Probe.of(hashes)
        np.bitwise_or.at(self.words, self._places(probe), probe.bits)

    def passes(self, probe: Probe) -> NDArray[np.intp]:
        """Places of those that may be in the set."""
        found: NDArray[np.intp] = ((self.words[self._places(probe)] & probe.bits) == probe.bits).nonzero()[0]
        return found

    def _places(self, probe: Probe) -> NDArray[np.intp]:
        import numpy as np

        return ((probe.where * np.uint64(len(self.words))) >> np.uint64(32)).view(np.intp)
