"""What workers print, log and warn about comes out in the parent."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import manyhands as mh
import tasks
from eventually import eventually


@pytest.fixture(scope="module")
def pool() -> Iterator[mh.ProcessPoolExecutor]:
    with mh.ProcessPoolExecutor(max_workers=2) as executor:
        executor.submit(tasks.pid).result()  # starts it here, not in the first test
        yield executor


def test_what_a_task_prints_is_there_before_its_result(pool: mh.ProcessPoolExecutor) -> None:
    for number in range(100):
        with contextlib.redirect_stdout(io.StringIO()) as out:
            pool.submit(tasks.say, f"line {number}").result()
            assert out.getvalue() == f"line {number}\n"


def test_both_streams(pool: mh.ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]) -> None:
    pool.submit(tasks.say, "to out ä\U0001f600").result()
    pool.submit(tasks.say, "to err", "stderr").result()
    assert capsys.readouterr() == ("to out ä\U0001f600\n", "to err\n")


def test_lines_come_out_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with mh.ProcessPoolExecutor(max_workers=3) as executor:
        for word in "abc":
            executor.submit(tasks.stammer, word * 50, 200)
    lines = capsys.readouterr().out.splitlines()
    assert Counter(lines) == {
        f"{word * 50}-{word * 50} {number}": 1 for word in "abc" for number in range(200)
    }
    for word in "abc":
        assert [line for line in lines if line[0] == word] == [
            f"{word * 50}-{word * 50} {number}" for number in range(200)
        ]


def test_more_than_a_pipe_holds(
    pool: mh.ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    line = "x" * 999
    pool.submit(lambda: print("\n".join([line] * 2000))).result()
    lengths = [len(each) for each in capsys.readouterr().out.splitlines()]
    assert lengths == [999] * 2000


def test_a_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    with mh.ProcessPoolExecutor(max_workers=1, output_prefix="<{worker} {pid}> ") as executor:
        pid = executor.submit(tasks.say, "one\ntwo").result()
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"^<\d+ ", "<", line) for line in lines] == [f"<{pid}> one", f"<{pid}> two"]


def test_a_line_without_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(lambda: print("half", end="")).result()
        executor.submit(lambda: print(" and half")).result()
        executor.submit(lambda: print("the last", end="")).result()
    assert capsys.readouterr().out == "half and half\nthe last\n"


def test_what_c_code_and_subprocesses_write(
    pool: mh.ProcessPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def shows(text: str) -> bool:
        seen.append(capsys.readouterr().out)
        return text in "".join(seen)

    pool.submit(os.write, 1, b"written to 1\n").result()
    eventually(lambda: shows("written to 1\n"), "what was written to descriptor 1 is shown")
    pool.submit(subprocess.run, ["echo", "from a subprocess"], check=True).result()
    eventually(lambda: shows("from a subprocess\n"), "what a subprocess printed is shown")


def test_what_a_dying_worker_printed_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    def speak_and_die() -> None:
        print("last words")
        tasks.die("SIGKILL")

    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        with pytest.raises(mh.WorkerDied):
            executor.submit(speak_and_die).result()
    assert capsys.readouterr().out == "last words\n"


def test_standard_input_is_empty(pool: mh.ProcessPoolExecutor) -> None:
    assert pool.submit(lambda: sys.stdin.read()).result() == ""


def test_log_records(caplog: pytest.LogCaptureFixture) -> None:
    name = "tests.of.workers"
    with caplog.at_level(logging.INFO, logger=name):
        with mh.ProcessPoolExecutor(max_workers=1) as executor:
            executor.submit(tasks.log, name, logging.DEBUG, "too quiet").result()
            executor.submit(tasks.log, name, logging.WARNING, "%s of %d", "one", 2).result()
            executor.submit(tasks.log, name, logging.INFO, "plain").result()
    records = [record for record in caplog.records if record.name == name]
    assert [(record.levelname, record.getMessage()) for record in records] == [
        ("WARNING", "one of 2"),
        ("INFO", "plain"),
    ]
    assert {record.process for record in records} != {os.getpid()}
    assert records[0].filename == "tasks.py"


def test_log_records_with_an_exception_and_odd_arguments(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def complain() -> None:
        logger = logging.getLogger("tests.complaints")
        try:
            raise KeyError("inner")
        except KeyError:
            logger.exception("it failed: %r", lambda: 0)

    with mh.ProcessPoolExecutor(max_workers=1) as executor:
        executor.submit(complain).result()
    (record,) = (record for record in caplog.records if record.name == "tests.complaints")
    assert record.getMessage().startswith("it failed: <function")
    assert "KeyError: 'inner'" in caplog.text


def test_what_a_task_warns_and_logs_about_is_there_before_its_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with mh.ProcessPoolExecutor(max_workers=1) as executor:
            for number in range(100):
                executor.submit(tasks.warn, f"warning {number}").result()
                assert str(caught.pop().message) == f"warning {number}"
                executor.submit(tasks.log, "tests.order", logging.ERROR, "%s", number).result()
                assert caplog.messages[-1] == str(number)
                caplog.clear()


def test_warnings() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with mh.ProcessPoolExecutor(max_workers=1) as executor:
            executor.submit(tasks.warn, "from a worker").result()
    (warning,) = caught
    assert warning.category is UserWarning
    assert str(warning.message) == "from a worker"
    assert warning.filename.endswith("tasks.py")


def test_warnings_that_are_errors() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with mh.ProcessPoolExecutor(max_workers=1) as executor:
            with pytest.raises(UserWarning, match="an error"):
                executor.submit(tasks.warn, "an error here").result()


FILTERS = """
import sys, warnings
import manyhands as mh

def warn():
    warnings.warn("careful", DeprecationWarning, stacklevel=1)

assert sys.flags.context_aware_warnings
with warnings.catch_warnings():
    warnings.simplefilter("error", DeprecationWarning)
    with mh.ProcessPoolExecutor(1) as pool:
        assert isinstance(pool.submit(warn).exception(), DeprecationWarning)
    # The shared pool's workers follow.
    try:
        mh.map(lambda _: warn(), range(3), workers="process")
    except DeprecationWarning:
        pass
    else:
        raise AssertionError("no error")
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="filters are the whole program's")
def test_filters_of_a_context_hold_in_workers() -> None:
    command = [sys.executable, "-X", "context_aware_warnings=1", "-c", FILTERS]
    subprocess.run(command, check=True)


def test_a_filter_does_not_make_workers_import_what_it_is_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_with_warning.py").write_text("class Odd(UserWarning):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import module_with_warning  # type: ignore[import-not-found]

    def is_imported() -> bool:
        return "module_with_warning" in sys.modules

    def cause_warning(name: str) -> None:
        import module_with_warning

        warnings.warn("odd", getattr(module_with_warning, name), stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", module_with_warning.Odd)
        with mh.ProcessPoolExecutor(max_workers=1) as executor:
            assert not executor.submit(is_imported).result()
            with pytest.raises(module_with_warning.Odd):
                executor.submit(cause_warning, "Odd").result()
            executor.submit(tasks.warn, "ignored").result()
