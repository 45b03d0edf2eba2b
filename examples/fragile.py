"""What goes wrong stays where it is: tasks that crash, hang and fail beside good ones."""

import os
import signal
import time

import manyhands as mh


def task(number: int) -> str:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        time.sleep(3600)
    if number == 7:
        raise ValueError("seven is not for me")
    return f"task {number} is done"


with mh.ProcessPoolExecutor(max_workers=2) as pool:
    careful = pool.options(timeout=1)
    for future in [careful.submit(task, number) for number in range(10)]:
        try:
            print(future.result())
        except (mh.WorkerDied, mh.TaskTimeout, ValueError) as error:
            print(f"{type(error).__name__}: {error}")
    state = pool.statistics()
    print(f"{state['done']} done, {state['failed']} failed")
