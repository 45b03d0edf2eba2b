"""The native half of manyhands, written in Rust (crates/python).

It is one module. Only its description is in parts, which are called for their subjects;
at run time they do not exist.
"""

from manyhands._native.cluster import (
    BrokerGreeting as BrokerGreeting,
    ClusterClient as ClusterClient,
    ClusterVisit as ClusterVisit,
    ClusterWorker as ClusterWorker,
    DeadLetter as DeadLetter,
)
from manyhands._native.codec import (
    holds_little as holds_little,
    register_shared_array as register_shared_array,
    register_shipped_function as register_shipped_function,
)
from manyhands._native.command import (
    DemoView as DemoView,
    run_command as run_command,
)
from manyhands._native.future import (
    FutureBase as FutureBase,
    WaitSet as WaitSet,
    register_future as register_future,
)
from manyhands._native.interpreter import (
    Beginning as Beginning,
    Latch as Latch,
    check_cancelled as check_cancelled,
    count_greenlet as count_greenlet,
    cpu_times as cpu_times,
    kill_with_descendants as kill_with_descendants,
    lend_descriptor as lend_descriptor,
    probe_gil as probe_gil,
    read_at_once as read_at_once,
    register_switch as register_switch,
    set_parent_death_signal as set_parent_death_signal,
    settle as settle,
    sleep as sleep,
    wait_switched as wait_switched,
)
from manyhands._native.memory import (
    BlockBuffer as BlockBuffer,
    SharedBlock as SharedBlock,
    SharedBuffer as SharedBuffer,
    attach as attach,
    named_shared as named_shared,
    new_shared as new_shared,
    open_named_shared as open_named_shared,
    open_shared as open_shared,
    read_block as read_block,
    set_shared_memory_limit as set_shared_memory_limit,
    share_buffer as share_buffer,
    shared_memory as shared_memory,
)
from manyhands._native.pool import (
    LoopBell as LoopBell,
    ProcessEngine as ProcessEngine,
    PythonTasks as PythonTasks,
    ThreadPoolBase as ThreadPoolBase,
    ThreadWorker as ThreadWorker,
    WorkerLoop as WorkerLoop,
    ask_again_if_ignored as ask_again_if_ignored,
    cancel_requested as cancel_requested,
    close_thread_pools as close_thread_pools,
    forget_functions as forget_functions,
    guard_holds as guard_holds,
    restart_thread_pools as restart_thread_pools,
    stop_deadlines as stop_deadlines,
)
from manyhands._native.queue import (
    ConnectionBase as ConnectionBase,
    PackedItem as PackedItem,
    PipeSegment as PipeSegment,
    QueueBase as QueueBase,
    adopt_ends_in_child as adopt_ends_in_child,
    forget_heirs_in_parent as forget_heirs_in_parent,
    make_pipe as make_pipe,
    reserve_ends_for_child as reserve_ends_for_child,
)
from manyhands._native.server import (
    LoopEngine as LoopEngine,
    MessageFramer as MessageFramer,
    ServerEngine as ServerEngine,
    ServerLoop as ServerLoop,
    ServerLedger as ServerLedger,
    ServerWorker as ServerWorker,
    StreamCalls as StreamCalls,
    StreamReader as StreamReader,
    StreamWait as StreamWait,
    StreamWriter as StreamWriter,
    TrustedPeers as TrustedPeers,
    run_load as run_load,
    server_numbers as server_numbers,
    tell_service_manager as tell_service_manager,
)
from manyhands._native.sync import (
    FIRST_TASK_NUMBER as FIRST_TASK_NUMBER,
    BarrierArrival as BarrierArrival,
    BarrierBase as BarrierBase,
    ConditionBase as ConditionBase,
    ConditionWaiter as ConditionWaiter,
    Enlisted as Enlisted,
    EventBase as EventBase,
    LockBase as LockBase,
    RLockBase as RLockBase,
    SemaphoreBase as SemaphoreBase,
    WakeSocket as WakeSocket,
)
from manyhands._native.wire import (
    CONTROL_FD as CONTROL_FD,
    INHERITED_FD as INHERITED_FD,
    LONGEST_PACKET as LONGEST_PACKET,
    REPORT_BROKEN as REPORT_BROKEN,
    REPORT_LOG as REPORT_LOG,
    REPORT_SHORTAGE as REPORT_SHORTAGE,
    REPORT_WARNING as REPORT_WARNING,
    SEGMENT_FD as SEGMENT_FD,
    VERSION as VERSION,
    WORKER_PIPES as WORKER_PIPES,
    read_request as read_request,
    report_frame as report_frame,
    say_ended as say_ended,
    say_failed as say_failed,
    say_not_forked as say_not_forked,
    say_ready as say_ready,
    say_started as say_started,
)
