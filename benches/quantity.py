"""Numbers as people read them: three digits, a prefix, a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benches.measure import Unit

# Largest first; the last one also serves everything smaller.
_SCALES: dict[Unit, tuple[tuple[float, str], ...]] = {
    "1/s": ((1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")),
    "s": ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"), (1e-9, " ns")),
    "B": ((2.0**30, " GiB"), (2.0**20, " MiB"), (2.0**10, " KiB")),
    "x": ((1.0, "×"),),
}


def shown(value: float, unit: Unit) -> str:
    """Return `value` (in the SI `unit`) with a fitting prefix and about three digits.

    >>> shown(482_310.0, "1/s"), shown(8.21e-05, "s"), shown(1.82, "x")
    ('482k/s', '82.1 µs', '1.82×')
    """
    size, suffix = _scale(value, unit)
    return f"{digits(value / size)}{suffix}"


def tick(value: float, unit: Unit) -> str:
    """Return a round number with a fitting prefix and no trailing zeros.

    >>> tick(0.05, "s"), tick(1e-6, "s")
    ('50 ms', '1 µs')
    """
    size, suffix = _scale(value, unit)
    return f"{value / size:.6g}{suffix}"


def _scale(value: float, unit: Unit) -> tuple[float, str]:
    scales = _SCALES[unit]
    # 0.9995: what would round up to 1000 of one prefix is written as 1 of the next.
    return next((scale for scale in scales if abs(value) >= 0.9995 * scale[0]), scales[-1])


def digits(number: float) -> str:
    """Return a number with three significant digits and no exponent.

    >>> digits(27.345), digits(1234.5), digits(0.0123)
    ('27.3', '1234', '0.0123')
    """
    if number == 0:
        return "0"
    # "#" keeps the zeros that say how exact a number is: 1.00, not 1.
    return f"{number:.0f}" if abs(number) >= 999.5 else f"{number:#.3g}".removesuffix(".")
