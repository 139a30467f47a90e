"""Several sets of digits as one: domains are groups, images are of one shape."""

import bz2
import hashlib

import numpy as np
import published
import pytest
import torch

from fedkd.config import build
from fedkd.datasets import digits_five, usps
from fedkd.datasets.digits import Digits
from fedkd.datasets.digits_five import DigitsFive, DigitsFiveConfig
from fedkd.datasets.svhn import SVHN, SvhnConfig
from fedkd.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("svhn")
    published.write_svhn(folder, train=60, test=30)
    return folder


def read(root, *domains, **options):
    options = {"domains": domains, "partial": True, **options}
    return DigitsFive(DigitsFiveConfig(**options)).load(root)


def test_domains_are_groups_in_the_order_in_which_they_are_named(root):
    data = read(root, "svhn", "digits")
    assert data.groups.names == ("svhn", "digits")
    assert data.groups.train.bincount().tolist() == [60, 1437]
    assert data.groups.test.bincount().tolist() == [30, 360]
    assert data.shape == (3, 32, 32)


def test_images_that_fit_are_those_of_the_set_and_labels_stay_with_them(root):
    data, alone = (
        read(root, "digits", "svhn"),
        SVHN(SvhnConfig(partial=True)).load(root),
    )
    assert torch.equal(data.x_train[1437:], alone.x_train)
    assert torch.equal(data.y_train[1437:], alone.y_train)
    assert torch.equal(data.x_test[360:], alone.x_test)
    own = Digits().load(root)
    assert torch.equal(data.y_test[:360], own.y_test)
    assert torch.equal(data.x_test[:360], digits_five._fitted(own.x_test))
    assert torch.equal(data.x_test[7], digits_five._fitted(own.x_test[7:8])[0])


def test_grey_images_are_stretched_bilinearly_and_repeated():
    x = torch.tensor([[0, 100], [200, 100]], dtype=torch.uint8).view(1, 1, 2, 2)
    made = digits_five._fitted(x)
    assert made.shape == (1, 3, 32, 32)
    assert torch.equal(made[:, 0], made[:, 1])
    assert torch.equal(made[:, 0], made[:, 2])
    # 32 pixels over two: centres lie at (i + .5) / 16 - .5, edges are repeated.
    assert made[0, 0, 0, [0, 7, 8, 15, 16, 31]].tolist() == [0, 0, 3, 47, 53, 100]
    assert made[0, 0, [0, 15, 16, 31], 0].tolist() == [0, 94, 106, 200]


def test_so_many_of_each_domain_keep_its_mix_of_classes(root):
    data = read(root, "svhn", "digits", per_domain=100, test_per_domain=20)
    assert data.groups.train.bincount().tolist() == [60, 100]
    assert data.groups.test.bincount().tolist() == [20, 20]
    whole = Digits().load(root).y_train.bincount() / 1437 * 100
    mix = data.y_train[data.groups.train == 1].bincount()
    assert (mix - whole).abs().max() < 1


def test_a_domain_has_the_same_part_whatever_is_joined_with_it(root):
    one = read(root, "digits", per_domain=50)
    two = read(root, "svhn", "digits", per_domain=50)
    assert torch.equal(one.x_train, two.x_train[50:])
    other = read(root, "digits", per_domain=50, subset_seed=1)
    assert not torch.equal(one.x_train, other.x_train)


def test_a_domain_that_is_named_twice_is_refused():
    with pytest.raises(ConfigError, match="a domain comes twice"):
        build(DigitsFiveConfig, {"domains": ["digits", "digits"]}, "here")


def test_a_domain_whose_files_are_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"^svhn: 2 of 2 files are not in"):
        read(tmp_path, "digits", "svhn")
    with pytest.raises(DataError, match=r"^mnist: 4 of 4 files are not in"):
        DigitsFive().fingerprint(tmp_path)


def test_the_fingerprint_is_of_the_files_of_every_domain(root, monkeypatch):
    write_usps(root, monkeypatch)

    def mark(*domains):
        config = DigitsFiveConfig(domains=domains, partial=True)
        return DigitsFive(config).fingerprint(root)

    assert mark("digits") == ""
    assert mark("svhn", "usps") == f"{mark('svhn')}-{mark('usps')}"


def write_usps(root, monkeypatch):
    """Write both files of USPS with ten images each, and have them expected."""
    sums = {}
    for number, name in enumerate(usps.FILES):
        lines = []
        for label in range(1, 11):
            grey = np.full(256, -1.0)
            grey[:2] = 1, number / 10
            pairs = " ".join(f"{i}:{v:g}" for i, v in enumerate(grey, 1))
            lines.append(f"{label} {pairs}\n")
        content = bz2.compress("".join(lines).encode())
        (root / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(usps, "FILES", sums)


def test_usps_is_read_where_its_files_are(tmp_path, monkeypatch):
    write_usps(tmp_path, monkeypatch)
    (x, y), (x_test, _) = usps.read_usps(tmp_path)
    assert x.shape == (10, 1, 16, 16)
    assert y.tolist() == list(range(10))
    assert x[0, 0, 0, :3].tolist() == [255, 128, 0]
    assert x_test[0, 0, 0, :3].tolist() == [255, 140, 0]
    data = read(tmp_path, "usps", "digits")
    assert data.groups.names == ("usps", "digits")
    DigitsFive(DigitsFiveConfig(domains=("usps",))).check(tmp_path)


def test_usps_that_is_missing_or_another_file_says_where_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"usps\.bz2 is not in .* leave usps out"):
        usps.read_usps(tmp_path)
    for name in usps.FILES:
        (tmp_path / name).write_bytes(b"other")
    with pytest.raises(DataError, match=r"usps\.bz2 is damaged: found MD5 795f3202"):
        usps.read_usps(tmp_path)
