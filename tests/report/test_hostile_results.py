"""Results folders of others: what was made to do harm is refused, or left out and said."""

import numpy as np
import pytest
import torch
from safetensors.torch import save

from fedkd.api.finished import FinishedRun
from fedkd.base.folders import ResultsFolder, RunFolder, refuse_links_out_of
from fedkd.commands.export import command as export
from fedkd.errors import BoundsError, DataError
from fedkd.harness.folder import held
from fedkd.harness.request import Request, opened
from fedkd.metrics.metric_set import BY_CLIENT
from fedkd.report.plots import read_counts, read_gallery
from fedkd.report.reading import read_report
from fedkd.report.results import COLUMNS, read_results
from fedkd.report.tuning import read_tuning
from fedkd.simulation.metrics import read_metrics


@pytest.fixture
def folder(tmp_path):
    """A results folder in which a link leads out, to a file that is nobody's business."""
    out = tmp_path / "out"
    (out / "runs" / "one").mkdir(parents=True)
    (out / "results.csv").write_text("x\n")
    (tmp_path / "secret").write_text("mine")
    (out / "runs" / "one" / "log").symlink_to(tmp_path / "secret")
    return out


def test_a_link_out_of_a_results_folder_is_followed_by_nobody(folder):
    for do in (
        lambda: read_report([ResultsFolder(folder)]),
        lambda: held(ResultsFolder(folder)).__enter__(),
        lambda: opened(Request("quick", out=folder)),
        lambda: FinishedRun(folder / "runs" / "one"),
        lambda: export.main([str(folder), "--to", "m.pt"], standalone_mode=False),
    ):
        with pytest.raises(BoundsError, match=r"one/log leads to .*secret, outside of"):
            do()
    assert (folder.parent / "secret").read_text() == "mine"


def test_what_a_logger_keeps_within_the_folder_of_a_run_is_its_own(folder):
    run = folder / "runs" / "one"
    (run / "log").unlink()
    (run / "config.yaml").write_text("{}\n")
    (run / "wandb").mkdir()
    (run / "wandb" / "debug.log").symlink_to(folder.parent / "secret")
    refuse_links_out_of(folder)
    (run / "link").symlink_to(folder.parent / "secret")
    with pytest.raises(BoundsError, match=r"one/link leads to"):
        refuse_links_out_of(folder)


def test_a_table_of_very_many_columns_is_refused(tmp_path):
    more = ",".join(f"m{i}" for i in range(5000))
    (tmp_path / "r.csv").write_text(f"{','.join(COLUMNS)},{more}\n")
    with pytest.raises(
        DataError, match=r"r.csv:1: found 5,0.. columns, expected at most"
    ):
        read_results(tmp_path / "r.csv")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[" * 100_000, "not JSON: found JSON nested too deep"),
        ('{"round": true}', "expected an object with a whole number"),
        ('{"round": 1, "logged": "x"}', "found 'logged' of another kind"),
        ('{"round": 1, "clients": [1]}', "found 'clients' of another kind"),
        ('{"round": 1, "clients": {"0": 1}}', "found 'clients' of another kind"),
        ('{"round": 1, "global_accuracy": "9"}', "found 'global_accuracy' of another"),
        ('{"round": 1, "recall": [0.5, null, "9"]}', "found 'recall' of another"),
        ('{"round": 1, "bytes_up": null}', "found 'bytes_up' of another"),
        ('{"round": 1, "global_of": 1}', "found 'global_of' of another"),
        ('{"round": 1, "global_accuracy": {}}', "found 'global_accuracy' of another"),
        ('{"round": 1, "global_accuracy": NaN}', "found 'global_accuracy' of another"),
        ('{"round": 1, "seconds": 1e999}', "found 'seconds' of another"),
        ('{"round": 1, "recall": [0.5, -Infinity]}', "found 'recall' of another"),
        (f'{{"round": 1, "{BY_CLIENT}": {{"0": NaN}}}}', f"found '{BY_CLIENT}' of"),
        (f'{{"round": 1, "{BY_CLIENT}": {{"0": "9"}}}}', f"found '{BY_CLIENT}' of"),
        (f'{{"round": 1, "{BY_CLIENT}": [9]}}', f"found '{BY_CLIENT}' of"),
        (
            '{"round": 1, "global_accuracy": 9}',
            "found a measured round without 'bytes_up'",
        ),
        (
            '{"round": 1, "bytes_up": 1' + "0" * 400 + "}",
            "not JSON: found a whole number",
        ),
    ],
)
def test_a_line_of_another_kind_is_named(tmp_path, line, problem):
    (tmp_path / "metrics.jsonl").write_text(f'{{"round": 1}}\n{line}\n')
    with pytest.raises(DataError, match=f"metrics.jsonl:2: {problem}"):
        read_metrics(RunFolder(tmp_path))


def test_a_metric_may_be_called_by_client(tmp_path):
    line = '{"round": 1, "worst_by_client": 9.5}'
    (tmp_path / "metrics.jsonl").write_text(f"{line}\n")
    assert read_metrics(RunFolder(tmp_path)) == [{"round": 1, "worst_by_client": 9.5}]


@pytest.mark.parametrize(
    "content",
    [
        b"client,0\n0,\xff\n",
        b"client,0\n0," + b"9" * 5000 + b"\n",
        b"client,0\n0,\xc2\xb2\n",
    ],
)
def test_a_table_of_counts_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "c.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"c\.csv"):
        read_counts(tmp_path / "c.csv")


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(3), torch.ones(1, 2, 3, 3).byte(), torch.ones(2, dtype=torch.bfloat16)],
)
def test_a_gallery_of_no_images_is_refused(tmp_path, tensor):
    (tmp_path / "g").write_bytes(save({"a": tensor}))
    with pytest.raises(DataError, match=r"g: (found a of shape|not a gallery)"):
        read_gallery(tmp_path / "g")
    (tmp_path / "g").write_bytes(save({"a": torch.ones(1, 3, 2, 2).byte()}))
    assert np.all(read_gallery(tmp_path / "g")["a"] == 1)


def test_a_row_that_names_a_folder_elsewhere_is_refused(tmp_path):
    (tmp_path / "runs").mkdir()
    values = dict.fromkeys(COLUMNS, "1") | {"status": "failed", "run_id": "../../x"}
    values |= {"notes": "", "global_of": "model", "precision": "fp32"}
    rows = [",".join(values), ",".join(values.values())]
    (tmp_path / "results.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match=r"found the run_id '\.\./\.\./x'"):
        read_report([ResultsFolder(tmp_path)])


def test_a_chosen_json_nested_too_deep_is_damaged(tmp_path):

    (tmp_path / "chosen.json").write_text('{"a":' * 50_000)
    with pytest.raises(DataError, match=r"chosen.json: is damaged: found JSON nested"):
        read_tuning(ResultsFolder(tmp_path))
