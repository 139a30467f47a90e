"""Other code has another version in the results, also where nobody counts versions."""

import hashlib
import json
import sys

import pytest

from fedkd.plugins import sources
from fedkd.plugins.registry import load_registry

HOOK = "import fedkd\n@fedkd.hookimpl\ndef fedkd_register_strategies(register):\n"
SOUND = f"{HOOK}    register('in-place', ':Thing')\n"


@pytest.fixture(autouse=True)
def new_process():
    """Forget what was read, as another process would not know it."""

    def forget():
        sources.digest_of_package.cache_clear()
        sources._read.cache_clear()

    forget()
    yield forget
    forget()


def version_of(name):
    return next(p.version for p in load_registry().plugins if p.distribution == name)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the folder of a package, and a function that installs it."""
    folder = tmp_path / "sr_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(SOUND)
    (folder / "steps.py").write_text("RATE = 1\n")

    def install(direct_url):
        info = tmp_path / "sr-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: sr\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text("[fedkd]\npoint = sr_package\n")
        (info / "direct_url.json").write_text(direct_url)

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sr_package", raising=False)
    return folder, install


def test_a_package_that_is_installed_in_place_has_a_hash_of_its_sources(
    package, new_process
):
    folder, install = package
    install(json.dumps({"url": "file:///x", "dir_info": {"editable": True}}))
    first = version_of("sr")
    assert first.startswith("1.0 in place, sha256:")
    (folder / "steps.py").write_text("RATE = 0\n")
    # In this process the module is what it was.
    assert version_of("sr") == first
    new_process()
    assert version_of("sr") != first


@pytest.mark.parametrize(
    "told", ['{"url": "file:///x", "dir_info": {}}', '{"url": "x"}', "[]", "no JSON"]
)
def test_one_that_is_installed_otherwise_has_its_version(package, told):
    _, install = package
    install(told)
    assert version_of("sr") == "1.0"


def test_a_file_has_a_hash_of_itself_and_of_what_it_imports_beside_it(
    tmp_path, new_process
):
    path, text = tmp_path / "mine.py", b"import json\n"
    assert sources.digest_of_file(path, text) == hashlib.sha256(text).hexdigest()[:12]
    (tmp_path / "unused.py").write_text("A = 1\n")
    (tmp_path / "helper.py").write_text(
        "from deeper.rates import RATE\nimport helper\n"
    )
    deeper = tmp_path / "deeper"
    deeper.mkdir()
    (deeper / "__init__.py").write_text("")
    (deeper / "rates.py").write_text("RATE = 1\n")
    text = b"from helper import RATE\nimport os.path\n"
    seen = [sources.digest_of_file(path, text)]
    for name in ("helper.py", "deeper/rates.py"):
        with (tmp_path / name).open("a") as file:
            file.write("# changed\n")
        new_process()
        seen.append(sources.digest_of_file(path, text))
    assert len(set(seen)) == 3
    (tmp_path / "unused.py").write_text("A = 2\n")
    new_process()
    assert sources.digest_of_file(path, text) == seen[-1]


def test_a_file_that_is_no_python_has_a_hash(tmp_path):
    assert len(sources.digest_of_file(tmp_path / "mine.py", b"def (\0")) == 12
