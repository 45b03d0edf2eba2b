"""The benchmarks, in the order of tables and plots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benches.measure import beside
from benches.measures.arrays import ArrayArgument, ArrayResult, ArrayShared
from benches.measures.backends import GridSearch, OneArray
from benches.measures.cluster import (
    ClusterMemory,
    ClusterPublish,
    ClusterRoundTrip,
    ClusterTasks,
)
from benches.measures.cold import Cold
from benches.measures.lengths import TaskLength
from benches.measures.mapping import MapInts, Scaling
from benches.measures.memory import Memory
from benches.measures.recover import Recover
from benches.measures.round_trip import (
    Paced,
    PacedSlowly,
    RoundTrip,
    ThreadRoundTrip,
)
from benches.measures.servers import (
    BesideCrowd,
    BesideIdle,
    Connections,
    Echo,
    Messages,
    ProcessConnections,
    ProcessEcho,
    Streams,
    UvloopStreams,
)
from benches.measures.submit import Submit, ThreadSubmit
from benches.measures.sync.asynchronous import (
    AsyncGet,
    AsyncPut,
    AsyncRoundTrip,
    AsyncThreadRoundTrip,
)
from benches.measures.sync.idle import Idle
from benches.measures.sync.locks import (
    BoundedSemaphoreAlone,
    LockAlone,
    LockContended,
    LockWith,
    SemaphoreAlone,
)
from benches.measures.sync.many_locks import ManyLocksMemory, ManyLocksTime
from benches.measures.sync.owner_death import OwnerDeath, OwnerDeathFallback
from benches.measures.sync.queues import QueueBatches, QueueInts, QueueLarge, ThreadQueue
from benches.measures.sync.round_trips import (
    ConditionRoundTrip,
    EventRoundTrip,
    PipeRoundTrip,
    QueueRoundTrip,
)

if TYPE_CHECKING:
    from benches.measure import Measure

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Submit(),
        RoundTrip(),
        beside(1, RoundTrip),
        beside(2, RoundTrip),
        ArrayArgument(),
        ArrayShared(),
        ArrayResult(),
        MapInts(),
        ThreadSubmit(),
        ThreadRoundTrip(),
        beside(1, ThreadRoundTrip),
        Paced(),
        PacedSlowly(),
        Recover(),
        Cold(),
        Memory(),
        Scaling(),
        TaskLength(),
        OneArray(),
        GridSearch(),
        LockAlone(),
        LockWith(),
        LockContended(),
        SemaphoreAlone(),
        BoundedSemaphoreAlone(),
        EventRoundTrip(),
        beside(1, EventRoundTrip),
        ConditionRoundTrip(),
        beside(1, ConditionRoundTrip),
        QueueInts(),
        QueueBatches(),
        ThreadQueue(),
        QueueLarge(),
        QueueRoundTrip(),
        beside(1, QueueRoundTrip),
        PipeRoundTrip(),
        beside(1, PipeRoundTrip),
        AsyncGet(),
        AsyncPut(),
        AsyncRoundTrip(),
        AsyncThreadRoundTrip(),
        OwnerDeath(),
        OwnerDeathFallback(),
        Idle(),
        ManyLocksTime(),
        ManyLocksMemory(),
        Echo(),
        Connections(),
        BesideIdle(),
        ProcessEcho(),
        ProcessConnections(),
        Streams(),
        UvloopStreams(),
        Messages(),
        BesideCrowd(),
        ClusterTasks(),
        ClusterPublish(),
        ClusterRoundTrip(),
        ClusterMemory(),
    )
}
