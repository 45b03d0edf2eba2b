"""Processes fill one shared array, each its own rows; nothing is copied."""

import numpy as np
from numpy.typing import NDArray

import manyhands as mh

ROWS, COLUMNS, ROUNDS = 24, 72, 200


def fill(picture: NDArray[np.int64], row: int) -> None:
    y = 2.4 * row / (ROWS - 1) - 1.2
    for column in range(COLUMNS):
        point = complex(3.2 * column / (COLUMNS - 1) - 2.2, y)
        z, count = 0j, 0
        while abs(z) <= 2 and count < ROUNDS:
            z = z * z + point
            count += 1
        picture[row, column] = count


picture = mh.share(np.zeros((ROWS, COLUMNS), dtype=np.int64), writable=True)
with mh.ProcessPoolExecutor() as pool:
    for done in [pool.submit(fill, picture, row) for row in range(ROWS)]:
        done.result()

shades = " .:-=+*#%@"
for line in np.asarray(picture):
    print("".join(shades[min(9, int(count) // 3)] for count in line))
