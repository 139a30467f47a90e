"""The promises as classes for pytest: a test for each, with nothing but what is tested.

In the tests of a plug-in::

    from fedkd import testing

    class TestMedian(testing.StrategyContract):
        make = Median

Every class has a ``make``, which makes the thing: its class, or ``staticmethod(...)`` of
a function. What does not apply is a skip with its reason. They import no pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fedkd.testing.checks import STRATEGY_CHECKS
from fedkd.testing.datasets import DATASET_CHECKS
from fedkd.testing.metrics import METRIC_CHECKS
from fedkd.testing.models import MODEL_CHECKS
from fedkd.testing.partitioners import PARTITIONER_CHECKS
from fedkd.testing.report import Check


def _test(check: Check) -> Callable[[Any, Path], None]:
    def test(self: Any, tmp_path: Path) -> None:
        check(type(self).make, self.files(tmp_path))

    test.__doc__ = check.__doc__
    return test


class Contract:
    """A thing's promises, a test each. Derive from the class of its kind."""

    make: ClassVar[Callable[..., Any]]
    """Makes the thing."""
    checks: ClassVar[Sequence[Check]] = ()
    """The promises of its kind."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Give the class a test for each of its checks."""
        super().__init_subclass__(**arguments)
        for check in cls.checks:
            setattr(cls, f"test_{check.__name__}", _test(check))

    def files(self, folder: Path) -> Path:
        """Return the folder with the files of a data set: an empty one by default.

        A set that reads files overrides this, writes small ones into ``folder`` and
        returns it.
        """
        return folder


class StrategyContract(Contract):
    """``make()`` gives a :class:`fedkd.Strategy`, which does toy runs of three clients."""

    checks = STRATEGY_CHECKS


class DatasetContract(Contract):
    """``make()`` gives a :class:`fedkd.Dataset`; :meth:`files` writes what it reads."""

    checks = DATASET_CHECKS


class PartitionerContract(Contract):
    """``make()`` gives a :class:`fedkd.Partitioner`."""

    checks = PARTITIONER_CHECKS


class MetricContract(Contract):
    """``make()`` gives a :class:`fedkd.Metric`."""

    checks = METRIC_CHECKS


class ClassifierContract(Contract):
    """``make(image_shape, num_classes)`` gives a classifier: ``MyModel.build``."""

    checks = MODEL_CHECKS["classifier"]


class GeneratorContract(Contract):
    """``make(image_shape, num_classes)`` gives a generator of images."""

    checks = MODEL_CHECKS["generator"]


class DiscriminatorContract(Contract):
    """``make(image_shape, num_classes)`` gives a discriminator of images."""

    checks = MODEL_CHECKS["discriminator"]
