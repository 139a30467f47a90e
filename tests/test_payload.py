"""Payloads: what may travel, what it weighs, and that it arrives unchanged."""

from dataclasses import dataclass

import pytest
import torch

from fedkd.errors import ContractError
from fedkd.payload import decode, encode, seal


@dataclass(frozen=True)
class Parcel:
    weights: dict
    number: int = 0
    extra: object = None


@dataclass
class Open:
    weights: dict


def test_bytes_are_the_real_element_sizes():
    parcel = Parcel(
        {
            "a": torch.zeros(3, 2),
            "b": torch.zeros(4, dtype=torch.int64),
            "c": torch.zeros(5, dtype=torch.bfloat16),
        }
    )
    assert seal(parcel, "me") == 6 * 4 + 4 * 8 + 5 * 2


def test_scalars_travel_in_the_header_and_are_not_counted():
    assert seal(Parcel({}, 12345, (1.5, "x", None)), "me") == 0


def test_a_dict_is_refused_with_the_sender_and_the_mend():
    with pytest.raises(
        ContractError, match=r"fedx.local \(client 3\) sent dict; a pay"
    ):
        seal({"a": torch.zeros(1)}, "fedx.local (client 3)")


def test_a_dataclass_that_can_change_is_refused():
    with pytest.raises(ContractError, match="sent Open; a payload is a frozen"):
        seal(Open({}), "me")


def test_a_tensor_with_a_graph_is_refused():
    with pytest.raises(ContractError, match=r"weights.a with its graph.*detach"):
        seal(Parcel({"a": torch.zeros(1, requires_grad=True)}), "me")


def test_a_module_cannot_travel():
    with pytest.raises(ContractError, match="holds Linear at extra"):
        seal(Parcel({}, 0, torch.nn.Linear(1, 1)), "me")


def test_a_tree_comes_back_as_it_was():
    tree = Parcel(
        {"a": torch.tensor([1.5, float("nan")]), "b": torch.tensor(3)},
        7,
        [1, 0.1, (True, None, "é"), {3: torch.ones(2, 2), "k": float("inf")}],
    )
    back = decode(encode(tree))
    assert isinstance(back, Parcel)
    assert torch.equal(back.weights["a"].isnan(), torch.tensor([False, True]))
    assert back.weights["b"].dtype == torch.int64
    assert back.extra[:3] == [1, 0.1, (True, None, "é")]
    assert list(back.extra[3]) == [3, "k"]
    assert torch.equal(back.extra[3][3], torch.ones(2, 2))
    assert encode(back) == encode(tree)


def test_tensors_that_share_memory_are_stored_one_by_one():
    base = torch.arange(6.0)
    back = decode(encode({"row": base[:3], "all": base}))
    assert back["row"].tolist() == [0, 1, 2]
    assert back["all"].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("cut", [0, 7, 30, -1])
def test_damaged_data_is_refused_in_one_sentence(cut):
    with pytest.raises(ContractError, match="not a tree written by fedkd"):
        decode(encode(Parcel({"a": torch.ones(3)}))[:cut])


def test_data_that_names_no_dataclass_of_ours_runs_no_code():
    name = Parcel.__qualname__
    Parcel.__qualname__ = "pytest"
    try:
        evil = encode(Parcel({}))
    finally:
        Parcel.__qualname__ = name
    with pytest.raises(ContractError, match="no frozen dataclass of an imported"):
        decode(evil)
