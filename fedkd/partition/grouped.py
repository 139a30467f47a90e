"""Splits by groups of samples: a client is a writer, a domain, a user, or a part of one."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from fedkd.config import Config
from fedkd.errors import ConfigError, counted
from fedkd.partition.base import (
    Indices,
    Partition,
    Partitioner,
    SplitConfig,
    check_demand,
)
from fedkd.partition.dirichlet import Dirichlet, DirichletConfig


class Natural(Partitioner):
    """One client a group of the data set: a writer, a domain, a user.

    Client k has all samples of the k-th group that has any; nothing is drawn. It is
    measured on test images of its own group. The natural split of LEAF (Caldas et al.
    2018, arXiv:1812.01097) and, with a domain a client, of FedBN (Li et al. 2021,
    arXiv:2102.07623).
    """

    Config = Config

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        del rng
        check_demand(labels, clients, num_classes)
        groups = required(self.groups, "natural", labels)
        present = np.unique(groups)
        if len(present) != clients:
            raise ConfigError(
                f"natural: found {counted(clients, 'client')}, expected {len(present)}, "
                "one for each group that has training samples. Set clients: "
                f"{len(present)}, or use the partitioner 'groups', which has several "
                "clients share a group."
            )
        lists = [_where(groups, group) for group in present]
        return Partition.of(lists, labels, num_classes, groups=present)


class GroupsConfig(SplitConfig):
    """Options of ``groups``."""

    alpha: float = Field(0.1, gt=0, le=1e6)
    """Concentration of the mix of classes among the clients of a group, as in
    ``dirichlet``: small is strong skew, 100 nearly even."""
    min_size: int = Field(10, ge=1)
    """Samples that each client gets at least, of its own group."""
    tries: int = Field(20, ge=1)
    """Splits of a group that are drawn before the best is repaired, as in
    ``dirichlet``."""


class Groups(Partitioner):
    """Label skew within groups: a group's clients share its samples as ``dirichlet``.

    Client k is of the (k mod G)-th of the G groups that have samples, so that groups
    have equally many clients, or one more. A client has samples of its own group only
    and is measured on test images of that group: both the domain and the mix of classes
    differ from client to client.
    """

    Config = GroupsConfig

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        config: GroupsConfig = self.config
        check_demand(labels, clients, num_classes, config.min_size)
        groups = required(self.groups, "groups", labels)
        present = np.unique(groups)
        if len(present) > clients:
            raise ConfigError(
                f"groups: found {counted(clients, 'client')}, expected at least "
                f"{len(present)}, one for each group that has training samples; some "
                "groups would be left out. Raise the number of clients, or use a "
                "partitioner that does not look at groups."
            )
        random = config.stream(rng)
        of = present[np.arange(clients) % len(present)]
        within = DirichletConfig(
            alpha=config.alpha, min_size=config.min_size, tries=config.tries
        )
        lists: list[Indices] = [np.empty(0, np.int64)] * clients
        notes: list[str] = []
        for group in present:
            members, positions = np.flatnonzero(of == group), _where(groups, group)
            _require_enough(group, len(positions), len(members), config.min_size)
            part = Dirichlet(within).split(
                labels[positions], len(members), num_classes, random
            )
            for client, own in zip(members, part.indices, strict=True):
                lists[client] = positions[own]
            # Its clients are numbered within the group.
            notes += [f"{note} (clients of group {group})" for note in part.notes]
        return Partition.of(lists, labels, num_classes, notes, of)


def _require_enough(group: int, samples: int, clients: int, least: int) -> None:
    """Refuse a group that is too small for its clients.

    Raises:
        ConfigError: Naming the group.
    """
    if samples < clients * least:
        # With less than a sample for each client, no min_size helps.
        ways = ["the option min_size"] if samples >= clients else []
        ways += ["the number of clients"] if clients > 1 else []
        raise ConfigError(
            f"groups: found {counted(samples, 'sample')} in group {group}, expected "
            f"{clients * least} or more, {least} for each client of this group "
            f"({clients}). Lower {', or '.join(ways)}."
        )


def required(groups: Indices | None, name: str, labels: Indices) -> Indices:
    """Return the groups of the samples, int64 ``[N]``.

    Args:
        groups: What the partitioner was given.
        name: The partitioner, for the message.
        labels: Labels of the training set, int64 ``[N]``.

    Raises:
        ConfigError: If there are none, or not one for each sample.
    """
    if groups is None:
        raise ConfigError(
            f"{name}: found a data set without groups, expected one in which each sample "
            "is of a writer, a domain or a user. Choose one that has them, such as "
            "'digits-five', give your own set groups=Groups(train, test), or use "
            "a partitioner by labels, such as 'dirichlet'."
        )
    if len(groups) != len(labels):
        raise ConfigError(
            f"{name}: found {len(groups)} groups and {len(labels)} samples, expected a "
            "group for each sample."
        )
    return groups


def _where(groups: Indices, group: int) -> Indices:
    return np.flatnonzero(groups == group)
