"""Rounds of FedAvg against the bare loop, executors against each other, evaluation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from engine import MANY, RESNET, W2, BareLoop, Rounds, images_of

from fedkd.base.machine import cores
from fedkd.simulation.evaluate import predictions
from fedkd.simulation.executors import Choice

SMALL = replace(W2, clients=4, images=500, steps=5)
NARROW = replace(RESNET, images=64, options={"width": 0.25})
SPREAD = replace(W2, clients=8, images=500, steps=10)


@pytest.mark.parametrize("work", [SMALL, NARROW], ids=["small", "resnet"])
def test_a_round_against_the_bare_loop(against, work):
    against(Rounds(work).round, BareLoop(work).round)


@pytest.mark.skipif(cores() < 2, reason="one core: two processes cannot be faster")
def test_two_processes_against_one(against):
    alone, spread = Rounds(SPREAD), Rounds(SPREAD, Choice("processes", 2))
    try:
        against(spread.round, alone.round)
    finally:
        spread.run.executor.close()


def test_ten_thousand_clients_against_a_thousand(against):
    many, few = (
        Rounds(replace(MANY, clients=number, sampled=20)) for number in (10_000, 1_000)
    )
    against(many.round, few.round)


def test_evaluation_against_the_bare_loop(benchmark, against):
    """Images a second are in ``extra_info`` too."""
    data = images_of(replace(SMALL, clients=1))
    bare = BareLoop(SMALL).model
    model = Rounds(SMALL).run.sides.server().model
    pixels = (data.x_test.float() / 255 - 0.5) / 0.25

    @torch.no_grad()
    def eager() -> float:
        bare.eval()
        hits = 0
        for x, y in zip(pixels.split(256), data.y_test.split(256), strict=True):
            hits += int((bare(x).argmax(1) == y).sum())
        return hits / len(pixels)

    against(lambda: predictions(model, data, 256), eager, rounds=15)
    if benchmark.stats is not None:
        rate = len(pixels) / benchmark.stats.stats.median
        benchmark.extra_info["images_per_second"] = round(rate)
