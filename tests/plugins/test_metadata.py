"""What distributions say of themselves may be damaged, or made to do harm."""

import sys
import time

import pytest

import fedkd
from fedkd.plugins import loader
from fedkd.plugins.registry import load_registry

HOOK = "import fedkd\n@fedkd.hookimpl\ndef fedkd_register_strategies(register):\n"
SOUND = f"{HOOK}    register('one', ':Thing')\n"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a distribution; None leaves out a file of it."""

    def write(name, module, body, points=None, metadata=""):
        site = tmp_path / name
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        if metadata is not None:
            text = metadata or f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
            (info / "METADATA").write_text(text)
        text = points or f"[fedkd]\npoint = {module}\n"
        content = text if isinstance(text, bytes) else text.encode()
        (info / "entry_points.txt").write_bytes(content)
        (site / f"{module}.py").write_text(body)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return write


def plugins():
    return [one for one in load_registry().plugins if one.distribution != "fedkd"]


@pytest.mark.parametrize("metadata", [None, "Metadata-Version: 2.1\n", "\0\xff"])
def test_one_without_a_name_harms_no_other(install, metadata):
    install("sound", "md_sound", SOUND)
    install("nameless", "md_nameless", SOUND.replace("one", "two"), metadata=metadata)
    assert sorted(one.status for one in plugins()) == ["ok", "ok"]


@pytest.mark.parametrize(
    "points", [b"[fedkd]\nno equals sign\n", b"\xff\xfe[fedkd]\nx = y\n"]
)
def test_one_whose_list_is_damaged_is_named_and_harms_no_other(install, capsys, points):
    install("sound", "md_sound", SOUND)
    install("damaged", "md_damaged", SOUND, points=points)
    found = {one.distribution: one.status for one in plugins()}
    assert found["sound"] == "ok"
    said = capsys.readouterr().err
    assert "damaged" in found or "damaged-1.0.dist-info is damaged, and what it" in said


def test_names_that_steer_a_terminal_are_escaped(install, capsys):
    evil = "[fedkd]\npo\x1b[2Jint = md_evil\n"
    meta = "Metadata-Version: 2.1\nName: ev\x1b]0;il\x07\nVersion: 1\x1b[1m\n"
    install("evil", "md_evil", "raise OSError('a\\x1b[2Jb')", evil, meta)
    (plugin,) = plugins()
    assert plugin.status == "broken"
    said = capsys.readouterr().err
    assert "\x1b" not in said + plugin.name + plugin.distribution + plugin.version
    assert "\\x1b[2J" in said


def test_a_summary_that_steers_a_terminal_is_escaped(install):
    install("evil", "md_evil", SOUND.replace("Thing'", "Thing', summary='a\\x1b[2Jb'"))
    assert load_registry().entries("strategies")["one"].summary == "a\\x1b[2Jb"


@pytest.mark.parametrize(
    "body",
    [
        "raise BaseException('no')",
        "raise GeneratorExit",
        "import sys; sys.exit(3)",
        "(",
    ],
)
def test_whatever_one_raises_when_it_is_imported_ends_nothing(install, body):
    install("broken", "md_broken", body)
    (plugin,) = plugins()
    assert plugin.status == "broken"


def test_one_that_is_offered_twice_is_used_once(install):
    points = "[fedkd]\npoint = md_twice\npoint = md_twice\n"
    install("twice", "md_twice", SOUND, points)
    registry = load_registry(quiet=True)
    assert "one" in registry.entries("strategies")
    assert next(p.status for p in registry.plugins if p.name == "point") == "ok"


def test_one_that_takes_long_to_import_is_named_meanwhile(install, capsys, monkeypatch):
    monkeypatch.setattr(loader, "SLOW", 0.05)
    install("slow", "md_slow", f"import time\ntime.sleep(0.4)\n{SOUND}")
    started = time.perf_counter()
    (plugin,) = plugins()
    assert plugin.status == "ok"
    assert time.perf_counter() - started >= 0.4
    assert capsys.readouterr().err == (
        "fedkd: plug-in 'point' of slow 1.0 is being imported for 0.05 s now. Ctrl-C "
        "ends that; with FEDKD_DISABLE_PLUGINS=point it is left out.\n"
    )
    assert fedkd.__version__
