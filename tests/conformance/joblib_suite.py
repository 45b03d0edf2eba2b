"""A pytest plugin: runs joblib's own test_parallel.py with our backend in the place of loky.

Used by test_joblib.py in a process of its own; what is skipped is listed here with its reason.
"""

from __future__ import annotations

import pytest
from joblib.parallel import BACKENDS

import manyhands.joblib

manyhands.joblib.register()
BACKENDS["loky"] = manyhands.joblib.ManyhandsBackend

# Beginning of a test's name -> why it makes no sense for us.
SKIPPED = {
    "test_nested_parallel_warnings[loky-multiprocessing-True]": "our workers may have children",
    "test_nested_parallel_warnings[multiprocessing-loky-True]": "we work below multiprocessing",
    "test_nested_parallel_warnings[threading-loky-True]": "we work below threads",
    "test_nested_loop[back_compat_backend-manyhands]": "its workers do not know our name",
    "test_error_capture[loky]": "an error does not make us restart the workers",
    "test_backend_context_manager[parallel_backend-loky]": "asks for the class LokyBackend",
    "test_backend_context_manager[parallel_config-loky]": "asks for the class LokyBackend",
    "test_nested_parallelism_limit[parallel_config-loky]": "asks for the name LokyBackend",
    "test_nested_parallelism_limit[parallel_backend-loky]": "asks for the name LokyBackend",
    "test_auto_memmap_on_arrays_from_generator[loky]": "arrays go through shared memory instead",
    "test_memmapping": "arrays go through shared memory instead",
    "test_multiple_generator_call_separated_gc": "expects one call's end to break another call",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what other backends are tested for, and skip what is listed above."""
    kept = []
    for item in items:
        ours = any(word in item.name for word in ("loky", "manyhands", "initializer", "threadpool"))
        if not ours:
            continue
        for name, reason in SKIPPED.items():
            if item.name.startswith(name):
                item.add_marker(pytest.mark.skip(reason=reason))
        kept.append(item)
    items[:] = kept
