"""How many items travel as one task: `ramp` and `Pace`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manyhands._task.pace import CHUNK_SECONDS, LARGEST, Pace, ramp


@given(count=st.integers(0, 5_000_000), workers=st.integers(1, 64))
def test_a_ramp_covers_all_items_in_few_pieces(count: int, workers: int) -> None:
    sizes = list(ramp(count, workers))
    assert sum(sizes) == count
    assert all(size >= 1 for size in sizes)
    assert len(sizes) <= 64 * workers + count // LARGEST
    assert max(sizes, default=0) <= max(1, min(LARGEST, count // (4 * workers)) + 1)


@given(count=st.integers(1000, 1_000_000), workers=st.integers(1, 16))
def test_a_ramp_begins_and_ends_with_small_pieces(count: int, workers: int) -> None:
    sizes = list(ramp(count, workers))
    assert sizes[0] == sizes[-1] <= max(1, count // (4096 * workers))
    assert sizes[:workers] == sizes[-workers:]


def test_unknown_items_travel_alone() -> None:
    assert Pace(workers=2).size(remaining=10_000) == 1


def test_a_fixed_size_stays() -> None:
    pace = Pace(workers=2, fixed=7)
    pace.learn(7, 1.0, 1.0)
    assert pace.size(remaining=3) == 7


def test_a_piece_lasts_as_long_as_it_should() -> None:
    pace = Pace(workers=2)
    pace.learn(100, call_seconds=100 * 1e-5, submit_seconds=0.0)
    assert pace.size(remaining=None) == int(CHUNK_SECONDS / 1e-5)


def test_slow_items_travel_alone() -> None:
    pace = Pace(workers=2)
    pace.learn(1, CHUNK_SECONDS * 2, 0.0)
    assert pace.size(remaining=10_000) == 1


def test_fast_items_travel_in_growing_crowds() -> None:
    pace = Pace(workers=2)
    sizes = []
    for _ in range(6):
        size = pace.size(remaining=None)
        sizes.append(size)
        pace.learn(size, size * 1e-7, 0.0)
    assert sizes == sorted(sizes)
    assert sizes[0] == 1
    assert sizes[-1] == LARGEST


def test_the_rest_is_shared_by_all_workers() -> None:
    pace = Pace(workers=4, item_seconds=1e-4)
    assert pace.size(remaining=120) == 10


def test_items_that_are_dear_to_send_travel_in_small_pieces() -> None:
    pace = Pace(workers=2)
    pace.learn(100, call_seconds=1e-4, submit_seconds=0.1)
    assert pace.size(remaining=None) == 2


@given(
    costs=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=8),
    remaining=st.none() | st.integers(0, 10**9),
)
def test_a_size_is_never_less_than_one(
    costs: list[tuple[float, float]], remaining: int | None
) -> None:
    pace = Pace(workers=3)
    for call_seconds, submit_seconds in costs:
        pace.learn(pace.size(remaining), call_seconds, submit_seconds)
        assert pace.size(remaining) >= 1
