"""``fedkd cite`` prints the references of all that a results folder used."""

import re

import pytest
import yaml

from fedkd import cli
from fedkd.base.folders import ResultsFolder


def write_run(folder, name, dataset, **options):
    """Write the part of a run's config that names what it used."""
    run = ResultsFolder(folder).run(f"{name}-0")
    run.path.mkdir(parents=True)
    config = {
        "strategy": {"name": name, "options": options},
        "dataset": {"name": dataset, "options": {}},
    }
    run.config.write_text(yaml.safe_dump(config))
    return run.path


def keys(capsys):
    return re.findall(r"@\w+\{(\w+),", capsys.readouterr().out)


def test_strategies_data_sets_and_fedkd_are_cited_once_each(tmp_path, capsys):
    write_run(tmp_path / "one", "fedavg", "digits")
    write_run(tmp_path / "one", "local", "digits")
    write_run(tmp_path / "two", "fedprox", "mnist")
    assert cli.main(["cite", str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    assert keys(capsys) == [
        "fedkd",
        "alpaydin1998optical",
        "lecun1998gradient",
        "li2020federated",
        "mcmahan2017communication",
    ]


def test_a_folder_of_one_run_will_do(tmp_path, capsys):
    run = write_run(tmp_path, "fedbn", "digits")
    assert cli.main(["cite", str(run)]) == 0
    assert keys(capsys) == ["fedkd", "alpaydin1998optical", "li2021fedbn"]


def test_calibration_is_cited_beside_what_it_calibrates(tmp_path, capsys):
    write_run(tmp_path, "fedbn", "digits", calibrate={"steps": 5})
    assert cli.main(["cite", str(tmp_path)]) == 0
    assert {"luo2021fear", "li2021fedbn"} <= set(keys(capsys))


def test_the_public_data_set_is_cited(tmp_path, capsys):
    run = ResultsFolder(tmp_path).run("fedavg-0")
    write_run(tmp_path, "fedavg", "digits")
    config = yaml.safe_load(run.config.read_text())
    config["public"] = {"dataset": {"name": "svhn", "options": {}}}
    run.config.write_text(yaml.safe_dump(config))
    assert cli.main(["cite", str(tmp_path)]) == 0
    assert any("netzer2011" in key for key in keys(capsys))


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_runs_is_refused(made, tmp_path, capsys):
    folder = tmp_path / "empty"
    if made:
        folder.mkdir()
    assert cli.main(["cite", str(folder)]) == 2
    assert "found no run; expected a results folder" in capsys.readouterr().err


def test_what_nobody_registers_here_names_the_plug_in_option(tmp_path, capsys):
    write_run(tmp_path, "median-avg", "digits")
    assert cli.main(["cite", str(tmp_path)]) == 2
    assert "--plugin FILE" in capsys.readouterr().err


def test_show_gives_the_entry(capsys):
    assert cli.main(["show", "fedprox"]) == 0
    out = capsys.readouterr().out
    assert "@inproceedings{li2020federated,\n  author = {Li and Sahu" in out
