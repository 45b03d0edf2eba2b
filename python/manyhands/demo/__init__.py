"""What each kind of worker is good for, measured on this machine: ``manyhands demo``.

Three jobs on real input, the standard library of the running Python: `parse` computes under the
GIL, `compress` runs native code that releases it, `fetch` waits for a local server. Each runs
sequentially, on threads, on processes and with ``workers="auto"``. A fourth, ``serve``, is a server
that looks up dinosaurs for many clients at once: for one at a time, on threads, on processes, as
coroutines, and as greenlets where these are installed. The results have to be equal.

    >>> import manyhands.demo
    >>> report = manyhands.demo.run(["parse"])
    >>> [(run.kind, run.speed_up) for run in report.jobs[0].runs]

``manyhands demo --json`` writes one object:

=====================  ======================================================================
``setting``            ``manyhands``, ``python``, ``platform`` (strings), ``cpus`` (number this
                       process may use), ``folder``, ``files``, ``bytes`` (the input)
``jobs``               a list in the order run, of objects with the fields below
``jobs[].name``        ``"parse"``, ``"compress"`` or ``"fetch"``
``jobs[].description`` what the job does
``jobs[].tasks``       tasks in each run
``jobs[].runs``        a list of ``{"kind", "seconds", "speed_up", "rate", "others"}``: kind is
                       ``"sequential"``, ``"thread"``, ``"process"``, and ``"auto"`` or, of
                       ``serve``, ``"coroutine"`` and ``"greenlet"``; speed_up is the sequential
                       run's seconds divided by this one's; rate is tasks a second; others is how
                       many threads of other programs wanted a CPU right before the run
``jobs[].choice``      the kind that ``"auto"`` chose; null for ``serve``, which is told
``jobs[].reason``      why it did, one line; of ``serve`` the rates
``jobs[].differences`` a list of lines, one for each kind whose results differ from the
                       sequential run's
``jobs[].best``        the kind to take, by the times measured
``jobs[].busy``        whether others wanted so much of the CPUs that times vary; it takes a
                       larger difference to be ``best`` then
``equal``              whether there were no differences
``others``             the average of all runs' ``others``
``busy``               whether any job was ``busy``
``seconds``            time of the whole demonstration
=====================  ======================================================================
"""

from manyhands.demo._dinosaurs import look_up
from manyhands.demo._jobs import Compressed, Page, Parsed, compress, fetch, parse
from manyhands.demo._measure import View, run
from manyhands.demo._report import Advice, DemoError, JobReport, Report, Run, Setting

__all__ = [
    "Advice",
    "Compressed",
    "DemoError",
    "JobReport",
    "Page",
    "Parsed",
    "Report",
    "Run",
    "Setting",
    "View",
    "compress",
    "fetch",
    "look_up",
    "parse",
    "run",
]
