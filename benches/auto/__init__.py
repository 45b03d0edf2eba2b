"""How well ``workers="auto"`` chooses: `python -m benches.auto --help`.

Some twenty workloads of every day run in the caller, on threads, on processes and with ``auto``,
in turn, while other processes keep the CPUs busy or leave them alone. *Regret* is the time of
``auto`` divided by that of the best of the other three in the same round.
"""
