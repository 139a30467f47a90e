"""The files of a results folder have one home for their names."""

import ast
from pathlib import Path

import pytest
from house import MODULES

from fedkd.base.folders import ResultsFolder, RunFolder

OUT, RUN = ResultsFolder(Path("out")), RunFolder(Path("run"))
FILES = (
    OUT.results, OUT.table, OUT.suite, OUT.environment, OUT.lock, RUN.config, RUN.result,
    RUN.metrics, RUN.counts, RUN.gallery, RUN.checkpoint, RUN.before,
)  # fmt: skip


def test_recorded_results_are_found_where_they_have_always_been():
    assert [str(path) for path in FILES] == [
        "out/results.csv", "out/table.md", "out/suite.yaml", "out/environment.json",
        "out/.lock", "run/config.yaml", "run/result.json", "run/metrics.jsonl",
        "run/counts.csv", "run/gallery.safetensors", "run/checkpoint.safetensors",
        "run/checkpoint-before.safetensors",
    ]  # fmt: skip
    assert (RUN.log, OUT.plots) == (Path("run/log"), Path("out/plots"))
    assert OUT.run("a-s0").path == Path("out/runs/a-s0")


def test_memories_are_found_again_and_the_checkpoint_is_none_of_them(tmp_path):
    run = RunFolder(tmp_path)
    for path in (run.checkpoint, run.memories(3), run.memories(12)):
        path.write_bytes(b"")
    names = sorted(path.name for path in run.every_memories())
    assert names == ["checkpoint-12.memories", "checkpoint-3.memories"]


@pytest.mark.parametrize("module", MODULES)
def test_no_other_module_spells_the_name_of_such_a_file(module):
    # Data has locks too, that have nothing to do with results.
    names = {path.name for path in FILES} - {OUT.lock.name}
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    assert module == "fedkd.base.folders" or not names & texts
