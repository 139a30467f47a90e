"""The tests of a table of planted faults: each is named, and none is missing."""

import pytest


def planted(faults, checks=None, make=lambda faulty: faulty):
    """Return the tests of a table of faults, as a class that pytest collects.

    Args:
        faults: A faulty thing, the check that is there for it, and what it must say.
        checks: Of which each must have a fault in the table; not asked if None.
        make: Returns what is checked of a faulty thing.
    """
    names = [f"{faulty.__name__}-{check.__name__}" for faulty, check, _ in faults]

    class TestPlanted:
        @pytest.mark.parametrize(("faulty", "check", "sentence"), faults, ids=names)
        def test_a_planted_fault_is_named(self, faulty, check, sentence, tmp_path):
            with pytest.raises(AssertionError, match=sentence):
                check(make(faulty), tmp_path)

        if checks is not None:

            def test_every_check_has_a_planted_fault(self):
                assert {check for _, check, _ in faults} == set(checks)

    return TestPlanted
