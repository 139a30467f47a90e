"""Where data files are sought."""

from pathlib import Path

import pytest

from fedkd.data import root as module
from fedkd.data.root import cache_folder, data_root, where_sought


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("FEDKD_DATA", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/me")


def test_the_option_comes_before_the_variable(monkeypatch):
    monkeypatch.setenv("FEDKD_DATA", "/variable")
    assert data_root("/option") == Path("/option")


def test_the_variable_comes_before_the_cache_folder(monkeypatch):
    monkeypatch.setenv("FEDKD_DATA", "/variable")
    assert data_root() == Path("/variable")


def test_an_empty_variable_counts_as_none(monkeypatch):
    monkeypatch.setenv("FEDKD_DATA", "")
    assert data_root() == Path("/home/me/.cache/fedkd")


def test_a_tilde_is_the_home_folder():
    assert data_root("~/images") == Path("/home/me/images")


def test_the_cache_folder_follows_xdg(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/fedkd")


def test_a_relative_xdg_folder_is_ignored(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "cache")
    assert cache_folder() == Path("/home/me/.cache/fedkd")


def test_the_cache_folder_of_a_mac(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "darwin")
    assert cache_folder() == Path("/home/me/Library/Caches/fedkd")


def test_the_cache_folder_of_windows(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_folder() == Path("/local/fedkd/Cache")


def test_messages_name_the_three_places(monkeypatch):
    monkeypatch.setenv("FEDKD_DATA", "/variable")
    assert where_sought() == (
        "--data-root, else FEDKD_DATA (now /variable), else /home/me/.cache/fedkd"
    )
