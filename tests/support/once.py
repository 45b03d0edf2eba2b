"""Which files of tests run on one Python only, and why they cannot differ on another.

The rule is in CONTRIBUTING.md. conftest.py marks their tests, test_once.py checks the rule. A test
that differs from the rest of its file says so: ``@pytest.mark.once("why")``, and
``@pytest.mark.on_each_python`` in the files below.
"""

from __future__ import annotations

import sys

# Why -> what.
REASONS = {
    "whom it concerns, and what becomes of it, is decided in Rust": (
        "test_bad_tasks",
        "test_compact_lists",
        "test_deadlocks",
        "test_deaths",
        "test_faults_at_start",
        "test_idle",
        "test_kill_storm",
        "test_pools_without_a_driver",
        "test_programs_of_tasks",
        "test_shortages",
        "test_starting_workers",
        "test_statistics_of_all_kinds",
        "test_sync_failures",
        "test_sync_storm",
        "test_workers_without_a_descriptor",
    ),
    "names, limits and rights are the kernel's, and what meets them is Rust": (
        "test_fifos_of_others",
        "test_leftovers",
        "test_names",
        "test_names_and_permissions",
        "test_narrow_address_space",
        "test_objects_by_name_alone",
        "test_refused_calls",
        "test_refused_signals",
        "test_shared_array",
        "test_shared_memory",
        "test_two_versions",
    ),
    "CPython's own suites test the same objects on each Python; more than that is Rust": (
        "test_fifo",
        "test_locks",
        "test_pipe",
        "test_queue",
        "test_queue_sharing",
        "test_sync_arguments",
        "test_value",
    ),
    "the HTTP is uvicorn's and waitress's, who test it on each Python": ("test_http_servers",),
    "a broker and a proxy are programs of their own": ("test_amqp_proxy", "test_private_broker"),
    "what joblib asks of a backend is the same on each Python": ("test_joblib",),
    "how many, which, when: arithmetic over executors, which are tested on each Python": (
        "test_executor_base",
        "test_map",
        "test_map_forms",
        "test_maps_in_the_caller",
        "test_maps_that_fail",
        "test_maps_that_go_on",
        "test_mp_pool",
        "test_pace",
        "test_pauses_between_attempts",
        "test_progress",
        "test_threads_that_do_not_stop",
        "test_threads_that_wait",
    ),
    "the commands and their screens are programs of their own": (
        "test_dead_letters",
        "test_demo",
        "test_doctor",
        "test_serve",
        "test_serve_http",
        "test_service",
        "test_top",
        "test_top_screen",
        "test_top_servers",
    ),
    "it tests files of the project": (
        "test_conftest",
        "test_docs",
        "test_floors",
        "test_once",
        "test_plain_words",
        "test_recipes",
        "test_tidy",
        "test_tools",
    ),
}
# The same, but on each Python without a GIL.
UNDER_THE_GIL = {
    "with a GIL, threads take turns on each Python": (
        "test_choice",
        "test_choice_by_whole_items",
        "test_threads_at_once",
    ),
}

HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()

ONCE = {
    stem: why
    for reasons in (REASONS, UNDER_THE_GIL if HAS_GIL else {})
    for why, stems in reasons.items()
    for stem in stems
}
