"""Looks for large primes in an endless stream of candidates, and stops when it has enough."""

from itertools import count, islice

import manyhands as mh


def prime(number: int) -> int | None:
    """Return the number if it is prime."""
    is_prime = number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))
    return number if is_prime else None


with mh.ProcessPoolExecutor() as pool:
    candidates = pool.imap(prime, count(10**10))
    for found in islice((each for each in candidates if each is not None), 10):
        print(found)
