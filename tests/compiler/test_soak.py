"""Launches, forks, interrupts and callbacks in a random order; nothing is lost, nothing hangs."""

import os
import random
import signal
import threading

import pytest

from tests.compiler.runtime_steps import Rounds, no_collection

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="forks and signals are POSIX's"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


class Counted:
    """A step whose launches are counted by itself; interrupts leave the count right."""

    def __init__(self, threads, rounds, before=None):
        self.step = Rounds(threads, rounds, before=before)

    def launch(self):
        self.step()

    def check(self):
        self.step.check(int(self.step.cells[2]))


def fork_and_launch(draw, steps):
    """The child has all it needs, whatever its parent was doing."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for _ in range(20):
                one = draw.choice(steps)
                one.launch()
                one.check()
            status = 0
        finally:
            os._exit(status)
    while True:
        try:
            assert os.waitpid(child, 0)[1] == 0
            return
        except KeyboardInterrupt:
            continue  # the timer goes on in the parent


def soak(seed, turns):
    draw = random.Random(seed)
    inner = Counted(1, 1)
    own = [Counted(threads, rounds) for threads in (1, 2, 3, 4) for rounds in (0, 5)]
    own += [Counted(2, 1, before=inner.launch), Counted(1, 1, before=inner.launch)]
    others = [Counted(threads, 2) for threads in (1, 2, 3)]
    stop, failures, interrupts = threading.Event(), [], [0]

    def work(one):
        try:
            while not stop.is_set():
                one.launch()
        except BaseException as error:
            failures.append(error)

    def interrupt(number, frame):
        interrupts[0] += 1
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    workers = [threading.Thread(target=work, args=(one,)) for one in others]
    for worker in workers:
        worker.start()
    noted = 0
    try:
        for _ in range(turns):
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-5, 5e-3))
                for _ in range(draw.randrange(1, 40)):
                    draw.choice(own).launch()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                noted += 1
            if draw.random() < 0.05:
                fork_and_launch(draw, own)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        for worker in workers:
            worker.join()
    assert not failures
    assert noted == interrupts[0] > 0
    for one in [*own, *others]:
        assert one.step.cells[2] > 0
        one.check()


def test_soak():
    with no_collection():
        soak(seed=1, turns=100)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
def test_long_soak(seed):
    with no_collection():
        soak(seed, turns=3000)
