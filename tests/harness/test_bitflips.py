"""A wrong bit in a results folder is found, or harms nothing; ``bitflips.py`` has more."""

from bitflips import BAD, search


def test_no_wrong_bit_changes_a_number_in_silence():
    results = search(3, seed=3)
    assert len(results) == 3
    assert [one for one in results if one[-1] in BAD] == []
    assert any(one[-1] == "found" for one in results)
