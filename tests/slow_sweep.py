"""An evaluation of JPEG in two processes that measures two pictures, and then waits over others: for test_signals.py.

python slow_sweep.py FOLDER WHERE; each worker that waits leaves a file named by its number. WHERE is "measuring", or
"writing": then the rows of the others are half written.
"""

import os
import sys
import time
from pathlib import Path

from tcm_jax.evaluation import sweep
from tcm_jax.system import signals

exact = sweep._measure


def measure(job, image):
    if job.index >= 2 and sys.argv[2] == "measuring":
        wait()
    elif job.index >= 2:
        os.fsync = wait
    return exact(job, image)


def wait(*_):
    Path(f"{os.getpid()}.pid").touch()
    time.sleep(300)


sweep._measure = measure  # in the workers too, which import this file

if __name__ == "__main__":
    signals.prepare()
    points = [sweep.Point("jpeg", 50.0)]
    sys.exit(signals.outcome(lambda: len(sweep.measure_all([sys.argv[1]], points, Path("rows"), processes=2))))
