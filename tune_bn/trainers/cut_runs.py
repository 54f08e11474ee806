"""The trap of runs that were cut: whether one that is stopped or killed goes on as it was."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from tune_bn.trainers.checked import OK, UNKNOWN, WRONG
from tune_bn.trainers.command.run import ScriptRun
from tune_bn.trainers.command.trainer import CommandTrainer
from tune_bn.trainers.short_runs import Found, Short, Tried


def resumes(tried: Tried, first: Short) -> Found:
    """4. A run that was cut counts as a whole one, or goes on otherwise than it was."""
    if tried.runs.steps < 3:
        return UNKNOWN, f"a run has {tried.runs.steps} steps"
    told, wrong, through = [], [], []
    total = tried.trainer.steps(tried.space.run_config(tried.base))
    whole = {tried.runs.steps: first.told(tried.results)}
    # Of another trainer nobody knows the processes.
    ways = ("a stop", "SIGTERM", "SIGKILL") if isinstance(tried.trainer, CommandTrainer) else ("a stop",)
    for way in ways:
        name = tried.runs.name()
        run = tried.runs.start(tried.base, tried.seed("search"), name, hold=2)
        try:
            tried.runs.go(run, 2)
            state = tried.runs.kept(run)
            if way != "a stop" and not (isinstance(run, ScriptRun) and run.leader):
                continue
            if way != "a stop" and isinstance(run, ScriptRun) and run.leader:
                with suppress(OSError):
                    os.kill(run.leader, signal.SIGTERM if way == "SIGTERM" else signal.SIGKILL)
                run.wait_for_end()
        finally:
            run.close()
        cut = run.reported if isinstance(run, ScriptRun) else run.steps
        if cut >= total:
            through.append(way)
            continue
        # A script that was ahead is compared beyond the step at which it was cut.
        target = max(tried.runs.steps, min(total, cut + 2))
        if target not in whole:
            whole[target] = tried.runs.short(tried.base, tried.seed("search"), target).told(tried.results)
        again = tried.runs.start(tried.base, tried.seed("search"), name, state)
        try:
            begun = again.steps
            tried.runs.go(again, target)
            values = tried.runs.told(again, tried.results, target)
            inexact = again.points.inexact if isinstance(again, ScriptRun) else None
        finally:
            again.close()
        if values != whole[target] or inexact is not None:
            wrong.append(f"after {way} it goes on otherwise: {inexact or tried.parted(whole[target], values)}")
        known = isinstance(again, ScriptRun) and again.goes_on
        place = f"from step {begun}" if begun else "from its checkpoint" if known else "from the beginning"
        told.append(f"after {way} at step {cut} {place}")
    if wrong:
        return WRONG, f"{'; '.join(wrong)} (seeds differ by up to {tried.spread:.3g})"
    if through:
        words = f"the script was through before it could be ended by {', '.join(through)}"
        return UNKNOWN, "; ".join([words, *told])
    return OK, f"bit for bit {', '.join(told)}"
