"""Workers that make ahead what training reads."""

import os
import subprocess
import sys

from pipelines.glm4voice.training.drawing import drawn

# a worker with more to hand over than anybody takes; it holds its standard output open
RUN = """
import time
import numpy as np
from pipelines.glm4voice.training.drawing import drawn

with drawn(lambda n: np.zeros(1_000_000), range(100), 1) as made:
    next(made)
    print("made", flush=True)
    time.sleep(600)
"""


def test_all_is_drawn_in_order() -> None:
    """By one process or by two others."""
    for n_workers in (0, 2):
        with drawn(lambda n: (n * n, os.getpid()), range(5), n_workers) as made:
            squares, pids = zip(*made, strict=True)

        assert squares == (0, 1, 4, 9, 16)
        assert len(set(pids)) == max(1, n_workers)
        assert (os.getpid() in pids) is not bool(n_workers)


def test_workers_do_not_outlive_a_run_that_is_killed() -> None:
    """Its output ends, which is open for as long as any of its processes lives."""
    with subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "made\n"
        run.kill()
        run.communicate(timeout=30)
