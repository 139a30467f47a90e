"""The promises of partitioners are tested by faults: each is named."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from planted import planted

from fedkd import Config, ConfigError, Partition, Partitioner, testing
from fedkd.testing import partitioners as checks


class Right(Partitioner):
    """Deals images in random order, in equal parts."""

    def indices(self, labels, clients, rng):
        return np.array_split(rng.permutation(len(labels)), clients)

    def split(self, labels, clients, num_classes, rng):
        if not 1 <= clients <= len(labels):
            raise ConfigError(f"found {clients} clients for {len(labels)} images.")
        lists = self.indices(labels, clients, rng)
        return Partition.of(lists, labels, num_classes, self.notes())

    def notes(self):
        return ()


class Undocumented(Right):
    class Config(Config):
        alpha: float = 0.5


class GivesLists(Right):
    def split(self, labels, clients, num_classes, rng):
        return super().split(labels, clients, num_classes, rng).indices


class ForgetsTheLastClient(Right):
    def indices(self, labels, clients, rng):
        return super().indices(labels, clients, rng)[:-1]


class PutsPositionsInFloats(Right):
    def split(self, labels, clients, num_classes, rng):
        right = super().split(labels, clients, num_classes, rng)
        floats = tuple(each.astype(np.float32) for each in right.indices)
        return dataclasses.replace(right, indices=floats)


class CountsFromOne(Right):
    def split(self, labels, clients, num_classes, rng):
        right = super().split(labels, clients, num_classes, rng)
        moved = tuple(each + 1 for each in right.indices)
        return dataclasses.replace(right, indices=moved)


class GivesOneTwice(Right):
    def split(self, labels, clients, num_classes, rng):
        right = super().split(labels, clients, num_classes, rng)
        first, second, *others = right.indices
        second = np.append(second, first[0])
        return dataclasses.replace(right, indices=(first, second, *others))


class GivesOneTwiceByOf(Right):
    def indices(self, labels, clients, rng):
        return [np.arange(9)] * clients


class LeavesOneWithout(Right):
    def indices(self, labels, clients, rng):
        return [[], *super().indices(labels, clients - 1, rng)]


class LeavesOutInSilence(Right):
    def indices(self, labels, clients, rng):
        return [each[:-1] for each in super().indices(labels, clients, rng)]


class SaysWhatIsNotSo(Right):
    def notes(self):
        return ("left out: 3 images of class 2",)


class Miscounts(Right):
    def split(self, labels, clients, num_classes, rng):
        right = super().split(labels, clients, num_classes, rng)
        return dataclasses.replace(right, counts=right.counts[::-1])


class CountsByClass(Right):
    def split(self, labels, clients, num_classes, rng):
        right = super().split(labels, clients, num_classes, rng)
        return dataclasses.replace(right, counts=right.counts.T)


class HashesNothing(Right):
    def split(self, labels, clients, num_classes, rng):
        right = super().split(labels, clients, num_classes, rng)
        return dataclasses.replace(right, hash="0" * 16)


class DrawsFromItsOwn(Right):
    def indices(self, labels, clients, rng):
        return super().indices(labels, clients, np.random.default_rng())


class GoesOn(Right):
    calls = 0

    def indices(self, labels, clients, rng):
        self.calls += 1
        return [np.roll(e, self.calls) for e in super().indices(labels, clients, rng)]


class DrawsForNothing(Right):
    def indices(self, labels, clients, rng):
        rng.random()
        return np.array_split(np.arange(len(labels)), clients)


class SortsTheLabels(Right):
    def indices(self, labels, clients, rng):
        labels.sort()
        return super().indices(labels, clients, rng)


class RemembersTheLast(Right):
    def indices(self, labels, clients, rng):
        self.last = super().indices(labels, clients, rng)
        return self.last


class SeedsNumPy(Right):
    def indices(self, labels, clients, rng):
        np.random.seed(0)
        return super().indices(labels, clients, rng)


class ShufflesByPython(Right):
    def indices(self, labels, clients, rng):
        lists = super().indices(labels, clients, rng)
        random.shuffle(lists)
        return lists


class SeedsTorch(Right):
    def indices(self, labels, clients, rng):
        torch.manual_seed(7)
        return super().indices(labels, clients, rng)


class DividesByClients(Right):
    def split(self, labels, clients, num_classes, rng):
        len(labels) // clients
        return super().split(labels, clients, num_classes, rng)


class TakesTooMany(Right):
    def split(self, labels, clients, num_classes, rng):
        if clients < 1:
            raise ConfigError("found no client.")
        lists = self.indices(labels, clients, rng)
        return Partition.of(lists, labels, num_classes)


class NeedsEveryClass(Right):
    def indices(self, labels, clients, rng):
        pools = [np.flatnonzero(labels == c) for c in range(4)]
        rng.permutation(pools[3])[0]
        return super().indices(labels, clients, rng)


FAULTS = [
    (Undocumented, checks.options_are_documented,
     "option alpha of Config has no description. Write a string under the field"),
    (GivesLists, checks.a_partition_is_returned,
     "split returned a tuple, expected a fedkd.Partition. Return fedkd.Partition.of"),
    (ForgetsTheLastClient, checks.a_partition_is_returned,
     "split gave 5 lists for 6 clients. Give one list to each client"),
    (PutsPositionsInFloats, checks.a_partition_is_returned,
     "split gave client 0 positions of type float32"),
    (CountsFromOne, checks.positions_are_in_the_training_set,
     "split gave client [0-5] the position 400; expected 0 to 399"),
    (GivesOneTwice, checks.no_image_is_at_two_clients,
     r"split gave image \d+ to client 0 and to client 1"),
    (GivesOneTwiceByOf, checks.no_image_is_at_two_clients,
     "split: a split has sample 0 6 times; expected each sample at most once"),
    (LeavesOneWithout, checks.every_client_has_images,
     "split gave client 0 no image, and there are 400 for 6 clients. Move some"),
    (LeavesOutInSilence, checks.what_is_left_out_is_noted,
     r"split left out 6 of 400 images, and its notes say \[\]. Give Partition.of a note"),
    (SaysWhatIsNotSo, checks.what_is_left_out_is_noted,
     "split left out 0 of 400 images, and its notes say .*3 images of class 2"),
    (Miscounts, checks.the_table_counts_the_lists,
     r"split counts \d+ images of class \d at client \d, whose list has \d+"),
    (CountsByClass, checks.the_table_counts_the_lists,
     r"a table of shape \[4, 6\]; expected \[6, 4\], clients x classes"),
    (HashesNothing, checks.the_table_counts_the_lists,
     "split gave the hash '0000000000000000', and that of its lists is"),
    (DrawsFromItsOwn, checks.one_stream_gives_one_split,
     "client 0 other images from an equal rng, of another object. Draw from rng only"),
    (GoesOn, checks.one_stream_gives_one_split,
     "other images from an equal rng, of the same object at its second call"),
    (DrawsForNothing, checks.another_stream_gives_another_split,
     "split drew from rng and gave every client the same images from another"),
    (SortsTheLabels, checks.labels_are_left_alone,
     r"split changed the label of image \d+. .*work on a copy"),
    (RemembersTheLast, checks.nothing_is_kept_in_self,
     "split changed self.last.0. All seeds and strategies use one object"),
    (SeedsNumPy, checks.global_generators_are_left_alone,
     "split changed NumPy's global generator. Draw from the generator rng"),
    (ShufflesByPython, checks.global_generators_are_left_alone,
     "split changed Python's global generator"),
    (SeedsTorch, checks.global_generators_are_left_alone, "split changed torch's seed"),
    (DividesByClients, checks.no_client_is_refused,
     r"split \(0 clients\), line \d+ of test_faults_of_partitioners.py raised "
     "ZeroDivisionError: .*expected fedkd.ConfigError for a number of clients below 1"),
    (TakesTooMany, checks.more_clients_than_images_are_refused,
     r"split \(401 clients, 400 images\) raised nothing; expected fedkd.ConfigError"),
    (NeedsEveryClass, checks.a_class_may_have_no_image,
     r"split \(no image of class 3\), line \d+ .* raised IndexError"),
]  # fmt: skip
"""A faulty partitioner, the check that is there for it, and what it must say."""


pytestmark = pytest.mark.usefixtures("globals_put_back")


TestPlanted = planted(FAULTS, testing.PARTITIONER_CHECKS)


class TestRight(testing.PartitionerContract):
    make = Right
