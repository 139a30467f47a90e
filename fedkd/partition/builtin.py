"""The partitioners that come with fedkd."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

PARTITIONERS = {
    "iid": (
        "schemes:IID",
        "Equal parts of the shuffled samples.",
    ),
    "dirichlet": (
        "dirichlet:Dirichlet",
        "Label skew by class, sizes capped: the published scheme.",
    ),
    "dirichlet-balanced": (
        "dirichlet:DirichletBalanced",
        "Label skew by client, all clients of one size.",
    ),
    "dirichlet-quantity": (
        "dirichlet:DirichletQuantity",
        "Label skew by client, and uneven sizes.",
    ),
    "shards": (
        "schemes:Shards",
        "Sorted by label and cut into shards, two to a client.",
    ),
    "classes": (
        "schemes:Classes",
        "Exactly so many classes a client.",
    ),
    "quantity": (
        "schemes:Quantity",
        "Uneven sizes, even mixes of classes.",
    ),
    "natural": (
        "grouped:Natural",
        "One client a group of the data set: writer, domain, user.",
    ),
    "groups": (
        "grouped:Groups",
        "Label skew within groups; a client is of one group.",
    ),
    "counts": (
        "counts:Counts",
        "A client x class table from a CSV file.",
    ),
}


@hookimpl
def fedkd_register_partitioners(register: Register) -> None:
    """Register the built-in partitioners."""
    for name, (target, summary) in PARTITIONERS.items():
        register(name, f"fedkd.partition.{target}", summary=summary)
