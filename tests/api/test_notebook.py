"""The page on Python as a notebook, in a real kernel."""

import importlib.util
import os
import re

import pytest
from house import ROOT

NEEDED = ("nbclient", "nbformat", "ipykernel", "pandas")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.mark.slow
@pytest.mark.skipif(MISSING, reason=f"needs the extra 'notebook': no {MISSING}")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_page_on_python_is_a_notebook(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    text = (ROOT / "docs" / "python.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    last = ["results", "run", "world", "data", "training"]
    cells = [nbformat.v4.new_code_cell(code) for code in (*blocks, *last)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    book = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(book, timeout=200, kernel_name="python3", resources=where)
    client.execute()

    first = [one for one in book.cells[0].outputs if "data" in one]
    assert len(first) == 2, first
    bar, table = (one["data"] for one in first)
    assert re.search(r'<progress value="8" max="8".*8 of 8 rounds', bar["text/html"])
    assert "fedprox" in table["text/html"]
    assert table["text/plain"].startswith("Results(quick, 4 of 4 runs done, ")
    pictures = [one for cell in book.cells for one in cell.outputs if "data" in one]
    assert any("data:image/png;base64," in str(one) for one in pictures)
    shown = [cell.outputs[0]["data"]["text/plain"] for cell in book.cells[-5:]]
    assert shown[1].startswith(
        "FinishedRun(fedprox, digits[fraction=0.3], dirichlet 0.1"
    )
    assert shown[2] == "Federation(digits, 10 clients, cnn, seed 1)"
    assert shown[3].startswith("ImageSet(digits, 434 training and 360 test images")
    said = [one.get("text", "") for cell in book.cells for one in cell.outputs]
    assert [text for text in said if "Warning" in text] == []
