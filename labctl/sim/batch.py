"""Many seeds, on every core: each in the order of its number, whoever finishes first."""

from __future__ import annotations

import gc
import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from labctl.sim.mutants import broken
from labctl.sim.run import Outcome, Schedule, draw, run
from labctl.sim.shrink import shrink
from labctl.sim.world import Violation


@dataclass(frozen=True, slots=True)
class Result:
    """A seed that has been lived; small, so that it travels between processes."""

    seed: int
    violation: Violation | None
    simulated_s: float


def one(seed: int, *, chosen: tuple[str, ...] = (), mutant: str = "") -> Result:
    """Live one seed."""
    with broken(mutant):
        outcome = run(seed, draw(seed, chosen))
    return Result(seed, outcome.violation, outcome.simulated_s)


def many(seeds: Sequence[int], *, jobs: int, chosen: tuple[str, ...] = (), mutant: str = "") -> Iterator[Result]:
    """Live them all."""
    work = partial(one, chosen=chosen, mutant=mutant)
    if jobs == 1:
        yield from map(work, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, initializer=quiet) as pool:
        yield from pool.imap(work, seeds, chunksize=4)


def quiet() -> None:
    """Parts log what goes wrong, and here nearly everything does."""
    logging.disable(logging.CRITICAL)
    gc.freeze()


def smallest(seed: int, *, chosen: tuple[str, ...] = (), mutant: str = "", small: bool = True) -> Outcome:
    """A seed's story; of one that fails the smallest that still does, unless not `small`."""
    with broken(mutant):
        found = run(seed, draw(seed, chosen))
        schedule: Schedule = found.schedule
        if found.violation is not None and small:
            schedule = shrink(found, lambda candidate: run(seed, candidate))
        return run(seed, schedule, listens=True)
