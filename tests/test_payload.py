"""Payloads: what may travel, what it weighs, and that it arrives unchanged."""

import json
import re
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from fuzz_mutations import joined, sealed, split

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


@pytest.mark.parametrize(
    "key", [(0, 1), np.int64(3), frozenset("a")], ids=lambda k: type(k).__name__
)
def test_a_key_that_would_not_come_back_is_refused_with_its_place(key):
    tree = {"a": {key: torch.zeros(2)}}
    with pytest.raises(
        ContractError, match=r"x\.local holds the key .* at a; keys are"
    ):
        encode(tree, "x.local")
    with pytest.raises(
        ContractError, match=r"x\.local holds the key .* at weights\.a;"
    ):
        seal(Parcel(tree), "x.local")


class Pair(NamedTuple):
    a: int
    b: float


class Longer(list):
    """A list of its own kind."""


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Pair(1, 2.0), "tuple"),
        (Counter("aab"), "dict"),
        (defaultdict(list, a=[1]), "dict"),
        (Longer([1]), "list"),
        (torch.ones(2, 2).max(0), "tuple"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_container_that_would_come_back_as_another_is_refused(value, plain):
    words = rf"x\.local holds \w+ at {{}}, which would come back as a plain {plain}\."
    with pytest.raises(ContractError, match=words.format(r"weights\.a")):
        seal(Parcel({"a": value}), "x.local")
    with pytest.raises(ContractError, match=words.format("its root")):
        encode(value, "x.local")


@pytest.mark.parametrize(
    "value", [np.int64(3), np.float32(3), np.ones(2), {1}, range(2)]
)
def test_what_is_no_number_of_python_is_refused(value):
    words = (
        rf"x holds {type(value).__name__} at extra; allowed are tensors, numbers of P"
    )
    with pytest.raises(ContractError, match=words):
        seal(Parcel({}, 0, value), "x")


@pytest.mark.parametrize(
    ("value", "plain"), [(np.float64(3), float), (IntEnum("Kind", "ONE").ONE, int)]
)
def test_what_is_a_number_of_python_too_comes_back_as_that(value, plain):
    seal(Parcel({}, 0, value), "me")
    assert type(decode(encode(value))) is plain


@pytest.mark.parametrize(
    "value",
    [
        OrderedDict(a=1),
        MappingProxyType({"a": 1}),
        torch.nn.Linear(1, 1).state_dict(),
        torch.Size([2, 3]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_containers_of_python_and_pytorch_come_back_equal(value):
    seal(Parcel({}, 0, value), "me")
    assert decode(encode(value)) == value


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor", "ignore:.*nested tensors")
@pytest.mark.parametrize(
    ("made", "found", "way"),
    [
        (lambda: torch.eye(3).to_sparse(), "torch.sparse_coo", ".to_dense()"),
        (lambda: torch.nested.nested_tensor([torch.ones(2)]), "nested", ".unbind()"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
            "torch.qint8",
            ".dequantize()",
        ),
        (
            lambda: torch.ones(2, dtype=torch.complex128),
            "torch.complex128",
            ".to() with another type",
        ),
        (
            lambda: torch.empty(2, dtype=torch.float4_e2m1fn_x2),
            "torch.float4_e2m1fn_x2",
            ".to() with another type",
        ),
    ],
    ids=["sparse", "nested", "quantized", "complex128", "float4"],
)
def test_a_tensor_that_would_not_come_back_is_refused_with_the_mend(made, found, way):
    said = re.escape(f" as {found}; tensors that travel are dense, of a type th")
    mend = re.escape(f"Call {way} on it, or send its parts.")
    with pytest.raises(ContractError, match=f"x.local holds weights{said}.*{mend}"):
        seal(Parcel(made()), "x.local")
    with pytest.raises(ContractError, match=f"x.local holds a{said}.*{mend}"):
        encode({"a": made()}, "x.local")


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


@dataclass(frozen=True)
class Trap:
    """Whoever makes one by its name is caught."""

    number: int
    calls: ClassVar[list] = []

    def __post_init__(self):
        self.calls.append(self.number)


def rebuilt(change):
    """Change the structure of sound data, and mend length and checksum."""
    header, body = split(encode(Parcel({"a": torch.arange(6.0).view(2, 3)}, 1)))
    facts = json.loads(header["__metadata__"]["tree"])
    change(facts)
    header["__metadata__"]["tree"] = json.dumps(facts)
    return decode(sealed(joined(header, body)))


def named(name):
    def change(facts):
        facts["tree"] = facts["tree"].replace(f"{__name__}:Parcel", name)

    return change


def laid_out(shape, strides):
    return lambda facts: facts.update(layout=[[shape, strides]])


def test_sound_data_is_read_after_its_checksum_was_mended():
    assert rebuilt(lambda facts: None).number == 1


def test_no_method_of_a_dataclass_is_called():
    data = encode(Trap(3))
    Trap.calls.clear()
    assert decode(data) == Trap(3)
    assert Trap.calls == [3]  # of the one that is compared with


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (named("os:system"), "no frozen dataclass of an imported module"),
        (named("fedkd:testing.checks"), "no frozen dataclass of an imported module"),
        (named("no_such_module:X"), "no frozen dataclass of an imported module"),
        (
            named(f"{__name__}:Trap"),
            "fields that Trap has not: extra, weights",
        ),
        (laid_out([2**40, 1], [0, 1]), "found strides .0, 1. for a shape of"),
        (laid_out([1, 6], [7, 2]), "found strides"),
        (laid_out([2**40], [1]), "found 6 elements for a shape of"),
        (laid_out([-2, -3], [3, 1]), "expected whole numbers"),
        (laid_out([2.0, 3], [3, 1]), "expected whole numbers"),
        (laid_out("23", "31"), "expected whole numbers"),
        (lambda facts: facts.update(tree="[" * 100_000), "nested too deep"),
        (lambda facts: facts.update(tree='{"s": [1]}'), "expected a scalar"),
        (lambda facts: facts.update(tree='{"x": 1}'), "KeyError"),
        (lambda facts: facts.update(tree='{"t": "9"}'), "KeyError"),
        (lambda facts: facts.update(tree='{"f": "0x1p9999"}'), "OverflowError"),
    ],
)
def test_what_was_made_to_do_harm_is_refused_though_its_checksum_fits(change, problem):
    with pytest.raises(ContractError, match=problem):
        rebuilt(change)


def test_a_header_of_any_length_costs_no_memory():
    with pytest.raises(
        ContractError, match="found a header of 9,223,372,036,854,775,8"
    ):
        decode(b"\xff" * 7 + b"\x7f" + b"{}")


def test_data_that_names_no_dataclass_of_ours_runs_no_code():
    name = Parcel.__qualname__
    Parcel.__qualname__ = "pytest"
    try:
        evil = encode(Parcel({}))
    finally:
        Parcel.__qualname__ = name
    with pytest.raises(ContractError, match="no frozen dataclass of an imported"):
        decode(evil)
