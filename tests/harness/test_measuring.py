"""A metric from a plug-in, all the way: column, table, picture, another bench."""

import json
import re
from pathlib import Path

import pytest

from fedkd.cli import main
from fedkd.report.results import COLUMNS, read_results

ROOT = Path(__file__).parents[2]
TOY = str(ROOT / "tests" / "plugins" / "toy_plugin.py")
PAGE = (ROOT / "docs" / "plugins.md").read_text("utf-8")
(PLUGIN,) = re.findall(
    r"```python\n((?:(?!```).)*fedkd_register_metrics.*?)```", PAGE, re.S
)
SUITE = """
name: toy
rounds: 2
clients: 3
seeds: 0
datasets: [toy]
partitions: [iid]
models: [toy-linear]
training: {local_steps: 2, batch_size: 8, lr: 0.05}
strategies: [toy-mean, toy-picky]
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Return a function that runs a suite with metrics, some of a plug-in."""
    monkeypatch.chdir(tmp_path)
    Path("recall.py").write_text(PLUGIN, encoding="utf-8")

    def run(metrics, *arguments):
        Path("toy.yaml").write_text(f"{SUITE}metrics: {metrics}\n", encoding="utf-8")
        plugins = ["--plugin", TOY, "--plugin", "recall.py"]
        wishes = ["--out", "out", "--plain", "--jobs", "1", *plugins, *arguments]
        assert main(["bench", "toy.yaml", *wishes]) == 0
        return read_results(Path("out/results.csv"))

    return run


def test_the_metric_on_the_page_of_plug_ins_takes_less_than_15_lines():
    assert len([line for line in PLUGIN.splitlines() if line.strip()]) < 15


def test_a_metric_of_a_plug_in_is_in_the_results_the_table_and_a_picture(bench, capsys):
    done, skipped = bench("[class_recall, {name: rounds_to, target: 0}]")
    names = ["global_class_recall", "local_class_recall", "rounds_to_0"]
    header = Path("out/results.csv").read_text().partition("\n")[0]
    assert header == ",".join((*COLUMNS, *names))
    line = json.loads(
        Path(f"out/runs/{done.run_id}/metrics.jsonl").read_text().splitlines()[-1]
    )
    recalls = line["global_class_recall"]
    assert done.metrics["global_class_recall"] == pytest.approx(
        sum(recalls) / len(recalls), abs=1e-6
    )
    assert done.metrics["rounds_to_0"] == 1
    assert skipped.metrics == dict.fromkeys(names)
    page = Path("out/table.md").read_text()
    assert "## Global class recall" in page
    assert "## Rounds to 0" in page
    assert "Global class recall" in capsys.readouterr().out
    pictures = [path.name for path in Path("out/plots").iterdir()]
    assert "global-class-recall-toy-iid-toy-linear.png" in pictures
    assert "metrics.class_recall: recall.py sha256:" in (
        Path(f"out/runs/{done.run_id}/config.yaml").read_text()
    )


def test_runs_that_are_done_are_not_run_again_but_with_other_metrics(bench):
    first = bench("[class_recall]", "--no-plots")
    assert bench("[class_recall]", "--no-plots") == first
    more = bench("[class_recall, worst_client]", "--no-plots")
    assert [row.run_id for row in more] != [row.run_id for row in first]
    assert more[0].global_accuracy == first[0].global_accuracy
    assert more[0].metrics["worst_client"] <= more[0].local_accuracy
