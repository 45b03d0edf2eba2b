"""A thousand customers at three desks, as plain functions: in threads, or as greenlets.

python examples/order_desk.py greenlet
"""

import sys
import time

import manyhands as mh

KIND = sys.argv[1] if len(sys.argv) > 1 else "thread"
if KIND not in ("thread", "greenlet"):
    sys.exit(f"usage: python {sys.argv[0]} [thread | greenlet]")
CUSTOMERS, DESKS = 1000, 3

orders: mh.Queue[int] = mh.Queue(maxsize=50)


def order(number: int) -> int:
    answer: mh.Future[int] = mh.Future()
    waiting[number] = answer
    orders.put(number)  # waits while there are too many
    return answer.result()


def serve() -> int:
    served = 0
    for number in orders:  # until it is shut down, and empty
        mh.sleep(0.0001)
        waiting.pop(number).set_result(number * number)
        served += 1
    return served


waiting: dict[int, mh.Future[int]] = {}
executor = {"thread": mh.ThreadPoolExecutor, "greenlet": mh.GreenletPoolExecutor}[KIND]
began = time.perf_counter()
# As many at once as there are customers and desks; greenlets need one thread for that.
with executor() as pool:
    pool.resize(CUSTOMERS + DESKS)
    desks = [pool.submit(serve) for _ in range(DESKS)]
    total = sum(pool.map(order, range(CUSTOMERS)))
    orders.shutdown()
    served = sum(desk.result() for desk in desks)
    threads = len(pool.statistics()["workers"])
seconds = time.perf_counter() - began
print(f"{served} orders, {total} in all, by {threads} {'threads' if threads > 1 else 'thread'}")
print(f"it took {seconds:.2f} s")
