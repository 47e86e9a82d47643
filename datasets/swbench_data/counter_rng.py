"""Random numbers from counters: what is drawn depends on (seed, purpose, index) only, on every
machine.

No state is carried from one sample to the next, so sample 5 is the same whether 6 or 600 are made.
"""

import hashlib


class CounterRng:
    def __init__(self, *key):
        """key: seed and purpose, such as (1, "niah_single_1", 4096)."""
        self.key = "/".join(str(part) for part in key)

    def bits64(self, *index):
        text = "/".join([self.key, *(str(part) for part in index)])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")

    def below(self, bound, *index):
        """Uniform in 0 … bound-1; draws that would favour small numbers are made again."""
        limit = 2**64 - 2**64 % bound
        attempt = 0
        while (value := self.bits64(*index, attempt)) >= limit:
            attempt += 1
        return value % bound

    def uniform(self, *index):
        """In [0, 1), a multiple of 2^-53."""
        return (self.bits64(*index) >> 11) / 2**53

    def choice(self, values, *index):
        return values[self.below(len(values), *index)]
