"""Files of data sets that were made to do harm: refused, and nothing of them is run."""

import hashlib
import io
import os
import pickle
import re
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from test_folder import loaded, refused

from fedkd.datasets import pictures
from fedkd.datasets.archives import zip_of
from fedkd.datasets.batches import read_batch
from fedkd.datasets.folder.dataset import Folder, FolderConfig
from fedkd.datasets.jpegs import FolderTree
from fedkd.errors import BoundsError, DataError


def npy(shape, body=b"", kind="|u1"):
    head = repr({"descr": kind, "fortran_order": False, "shape": shape})
    head = f"{head:<117}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head + body


SOUND = {
    "x_train": npy((2, 2, 2), b"\0\1" * 4),
    "y_train": npy((2,), b"\0\1"),
    "x_test": npy((2, 2, 2), b"\0\1" * 4),
    "y_test": npy((2,), b"\0\1"),
}


@pytest.fixture
def arrays(tmp_path):
    def write(**changes):
        path = tmp_path / "mine.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in {**SOUND, **changes}.items():
                archive.writestr(f"{name}.npy", content)
        return path

    return write


def is_refused(path, problem, **options):
    assert re.search(problem, refused(path, **options))


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm-was-done",)


def test_sound_arrays_are_read(arrays):
    assert loaded(arrays()).x_train.shape == (2, 1, 2, 2)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (npy((2**40, 2, 2), b"\0" * 8), r"it claims .* of uint8 and has 8 bytes"),
        (npy((2, 2, 2), b"\0" * 9), "it claims .* and has 9 bytes"),
        (npy((-1, 2, 2), b"\0" * 8), "found the shape"),
        (npy((2**40,), b"", "<U0"), "it claims"),
        (npy((1,), pickle.dumps(Harm()), "|O"), "Object arrays cannot be loaded"),
        (b"\x93NUMPY\x03\0" + SOUND["x_train"][8:], "version"),
        (b"\x93NUMPY\x01\0\xff\xff{", "EOF"),
    ],
)
def test_an_array_that_is_none_is_refused(arrays, content, problem):
    is_refused(
        arrays(x_train=content), f"found x_train that cannot be read .*{problem}"
    )
    assert not os.path.exists("harm-was-done")


def test_a_zip_that_claims_more_than_the_memory_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in SOUND.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            bomb = name == "x_train"
            with archive.open(member, "w", force_zip64=True) as file:
                file.write(npy((2**44 - 128, 1, 1)) if bomb else content)
            member.file_size = 2**44 if bomb else member.file_size
    is_refused(path, "x_train: found 16 TiB, expected what fits into the memory")


def test_a_list_of_what_is_in_a_zip_has_its_bounds(arrays, monkeypatch):
    monkeypatch.setattr("fedkd.datasets.archives.DIRECTORY", 100)
    with pytest.raises(
        BoundsError, match=r"a list of 2[0-9]{2} bytes of what is in the"
    ):
        zip_of(arrays()).__enter__()


def test_members_with_a_password_are_refused(arrays):
    path = arrays()
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    content[6] |= 1
    path.write_bytes(content)
    is_refused(path, "x_train that cannot be read .*encrypted")


@pytest.fixture
def tree(tmp_path):
    for half in ("train", "test"):
        for label in "ab":
            place = tmp_path / "tree" / half / label
            place.mkdir(parents=True)
            Image.new(
                "RGB", (8, 8), (9, 99, 199) if label == "a" else (200, 8, 30)
            ).save(place / "0.png")
    return tmp_path / "tree"


def png(width, height):
    def chunk(kind, body):
        checksum = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (png(8193, 8192), "8,192 x 8,193 pixels, expected at most 67,108,864 in all"),
        (png(100_000, 100_000), "exceeds limit"),
        (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n",
            "cannot identify it as any",
        ),
        (b"", "cannot identify it as any of PNG, JPEG"),
    ],
)
def test_an_image_that_is_too_large_or_a_program_is_refused(tree, content, problem):
    (tree / "train" / "a" / "1.png").write_bytes(content)
    is_refused(tree, f"1.png does not decode .*{problem}", resolution=8)


def test_no_kind_of_image_is_read_that_another_program_reads():
    file = io.BytesIO(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    with pytest.raises(pictures.UnidentifiedImageError), pictures.picture(file):
        pass
    assert not {"EPS", "WMF", "PDF", "IPTC", "GBR"} & set(pictures.FORMATS)


def test_a_link_out_of_the_folder_is_followed_only_where_that_is_asked(tree, tmp_path):
    (tree / "train" / "a").rename(tmp_path / "elsewhere")
    (tree / "train" / "a").symlink_to(tmp_path / "elsewhere")
    hint = "Remove the link, or put a copy in its place. If .* the option links to true"
    is_refused(tree, f"folder: .*train/a leads to .*elsewhere, outside of .*{hint}")
    assert loaded(tree, links=True).classes == ("a", "b")


def test_the_option_for_links_changes_no_prepared_files(tree):
    keys = [
        Folder(FolderConfig(path=str(tree), links=links)).key_options()
        for links in (True, False)
    ]
    assert keys[0] == keys[1]
    assert "links" not in keys[0]


def test_names_in_the_texts_of_a_set_lead_nowhere_else(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "secret").write_text("mine")
    with pytest.raises(BoundsError, match="secret, outside of"):
        FolderTree(tmp_path / "root").read("../secret")
    with pytest.raises(BoundsError, match="outside of"):
        FolderTree(tmp_path / "root").files("..")


@pytest.mark.parametrize("content", [Harm(), {"data": Harm()}, io.BytesIO])
def test_a_batch_that_names_code_is_refused_though_its_md5_fits(
    tmp_path, monkeypatch, content
):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(content)
    (tmp_path / "batch").write_bytes(data)
    with pytest.raises((ValueError, AttributeError), match=r"no array|attribute"):
        read_batch(tmp_path / "batch", hashlib.md5(data).hexdigest())
    assert not (tmp_path / "harm-was-done").exists()


def test_a_batch_of_another_md5_is_not_looked_at(tmp_path):
    (tmp_path / "batch").write_bytes(pickle.dumps({"data": np.zeros(3)}))
    with pytest.raises(ValueError, match=r"MD5 .*, expected 00"):
        read_batch(tmp_path / "batch", "00")


def test_arrays_of_every_protocol_are_unpickled(tmp_path):
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps({"data": np.arange(6, dtype=np.uint8)}, protocol)
        (tmp_path / "batch").write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            batch = read_batch(tmp_path / "batch", hashlib.md5(data).hexdigest())
        assert batch["data"].tolist() == [0, 1, 2, 3, 4, 5]


def test_an_npz_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(DataError):
        loaded(tmp_path / "pipe.npz")
