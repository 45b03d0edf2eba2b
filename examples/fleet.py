"""Tasks that another program runs, over a RabbitMQ that is started for both.

manyhands worker fleet --dev     in this folder, in one terminal
python fleet.py                  in another
"""

import manyhands as mh


@mh.task
def collatz(number: int) -> int:
    """Count the steps until a number has become 1, halved where even, and 3 n + 1 otherwise."""
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


if __name__ == "__main__":
    with mh.ClusterExecutor() as workers:
        steps = list(workers.map(collatz, range(1, 1001)))
        longest = max(range(1, 1001), key=lambda number: steps[number - 1])
        print(f"{longest} takes {max(steps)} steps, the most below 1001")
