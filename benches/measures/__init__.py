"""The benchmarks, in the order of tables and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benches.measures.arrays import ArrayArgument, ArrayResult, ArrayShared
from benches.measures.cold import Cold
from benches.measures.lengths import TaskLength
from benches.measures.mapping import MapInts, Scaling
from benches.measures.memory import Memory
from benches.measures.recover import Recover
from benches.measures.round_trip import RoundTrip, ThreadRoundTrip
from benches.measures.submit import Submit, ThreadSubmit

if TYPE_CHECKING:
    from benches.measure import Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Submit(),
        RoundTrip(),
        ArrayArgument(),
        ArrayShared(),
        ArrayResult(),
        MapInts(),
        ThreadSubmit(),
        ThreadRoundTrip(),
        Recover(),
        Cold(),
        Memory(),
        Scaling(),
        TaskLength(),
    )
}
