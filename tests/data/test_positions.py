"""Positions of a client's images, in every form in which a caller may list them."""

import warnings

import numpy as np
import pytest
import torch

from fedkd import testing
from fedkd.data.positions import positions_in
from fedkd.errors import ConfigError
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation


@pytest.mark.parametrize(
    "given",
    [
        [0, 2],
        (0, 2),
        range(0, 3, 2),
        np.array([0, 2]),
        np.array([0, 2], dtype=np.uint8),
        torch.tensor([0, 2]),
        torch.tensor([0, 2], dtype=torch.int32),
    ],
)
def test_whatever_lists_whole_numbers_is_taken(given):
    found = positions_in(3, given, "x")
    assert found.dtype == torch.int64
    assert found.tolist() == [0, 2]


def test_an_array_that_may_not_be_written_is_taken_without_a_warning():
    fixed = np.array([0, 2])
    fixed.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert positions_in(3, fixed, "x").tolist() == [0, 2]


def test_an_array_of_int64_is_not_copied():
    own = np.array([0, 2])
    assert positions_in(3, own, "x").data_ptr() == own.ctypes.data


@pytest.mark.parametrize("given", [[], np.zeros(0), torch.zeros(0)])
def test_none_at_all_are_none_of_whole_numbers(given):
    found = positions_in(3, given, "x")
    assert (found.dtype, found.shape) == (torch.int64, (0,))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            [0.0, 1.0],
            r"^x: found float64 of shape \[2\], expected the positions of images",
        ),
        (np.ones(3, dtype=bool), r"^x: found bool of shape \[3\]"),
        ([[0, 1], [1, 2]], r"^x: found int64 of shape \[2, 2\]"),
        ([[0, 1], [1]], "^x: found object of shape"),
        (["0"], "^x: found <U1 of shape"),
        (3, r"^x: found int64 of shape \[\]"),
        (None, "^x: found object of shape"),
        ([0, 3], "^x: found position 3, expected 0 to 2"),
        ([0, -1], "^x: found position -1, expected 0 to 2"),
    ],
)
def test_another_form_or_a_position_that_is_none_is_told_in_words(given, said):
    with pytest.raises(ConfigError, match=said):
        positions_in(3, given, "x")


def world(shards=([0, 1], [2], [3]), tests=([0], [1], [2]), **others):
    models = [ModelSpec("linear")]
    data = testing.toy_images()
    return Federation(data, shards, tests, models, load_registry().model, **others)


def test_a_federation_by_hand_takes_lists_of_positions():
    assert [len(client) for client in world().clients] == [2, 1, 1]
    parts = [[[0], [1]], [[2], [2]], [[3], [3]]]
    assert [[len(p) for p in own] for own in world(periods=parts).periods] == [
        [1, 1]
    ] * 3


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {"shards": ([0], [1], [36])},
            "shards: client 2: found position 36, exp.* 0 to 35",
        ),
        ({"tests": ([0], [-1], [2])}, "test_shards: client 1: found position -1"),
        ({"periods": [[[0]], [[1]], [[2.5]]]}, "periods: client 2: found float64"),
        ({"periods": [[[0]], [[1]]]}, "periods: found those of 2 clients, expected 3"),
    ],
)
def test_a_federation_says_which_client_has_a_position_that_is_none(parts, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        world(**parts)
