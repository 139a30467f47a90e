"""Accuracy beside costs, and the diagram of mean ranks: numbers and files."""

import sys
from dataclasses import replace

import pytest

from fedkd.base.folders import ResultsFolder
from fedkd.report import scatter
from fedkd.report.grouping import group
from fedkd.report.looks import looks
from fedkd.report.plots import draw_all
from fedkd.report.results import Row, write_results
from fedkd.report.stats.front import Point, front, points
from fedkd.report.stats.ranks import rank

PNG = b"\x89PNG\r\n\x1a\n"


def rows(label, *accuracies, megabytes=1, seconds=1.0, of="model"):
    return [
        Row(
            "quick", label, "digits", "iid", None, "cnn", 2, 3, seed, "done",
            global_accuracy=accuracy, run_id=f"{label}-{seed}", global_of=of,
            bytes_up=megabytes * 250_000, bytes_down=megabytes * 750_000,
            client_examples=100, seconds=seconds,
        )
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def points_of(found, cost, references=()):
    groups = group(found)
    ((_, setting), *_) = groups
    return points(groups, setting, cost, references)


def test_a_point_is_a_mean_accuracy_at_a_mean_cost():
    found = rows("a", 80.0, 82.0, megabytes=3) + rows("b", 70.0, seconds=None)
    assert points_of(found, "bytes") == [
        Point("a", 81.0, 3_000_000, True),
        Point("b", 70.0, 1_000_000, True),
    ]
    assert points_of(found, "examples")[0].cost == 100
    assert [point.label for point in points_of(found, "seconds")] == ["a"]


def test_the_legend_names_who_is_in_some_panels_only(tmp_path, monkeypatch):
    named = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.legend",
        lambda self, handles, texts, **how: named.append(texts),
    )
    panels = {
        "bytes": [Point("a", 80.0, 1.0, True), Point("b", 70.0, 2.0, True)],
        "seconds": [Point("b", 70.0, 2.0, True), Point("c", 60.0, 3.0, False)],
    }
    shown = looks(["a", "b", "c"], set())
    scatter.draw_pareto(panels, shown, tmp_path / "costs.png", "t")
    assert named == [["a", "b", "c"]]


def test_references_and_who_has_no_global_model_do_not_compete():
    found = rows("a", 80.0) + rows("central", 99.0) + rows("fedbn", 90.0, of="clients")
    competes = {p.label: p.competes for p in points_of(found, "bytes", {"central"})}
    assert competes == {"a": True, "central": False, "fedbn": False}


def test_who_has_a_run_without_a_result_is_in_no_front():
    lost = replace(rows("b", 90.0, None)[1], status="failed", seconds=None)
    found = [*rows("a", 60.0, 60.0), *rows("b", 90.0), lost]
    assert points_of(found, "seconds") == [
        Point("a", 60.0, 1.0, True),
        Point("b", 90.0, 1.0, False),
    ]


def test_the_front_is_whom_nobody_beats_in_both():
    every = [
        Point("good", 80.0, 10.0, True),
        Point("cheap", 70.0, 5.0, True),
        Point("dear", 79.0, 12.0, True),
        Point("equal, but dearer", 70.0, 6.0, True),
        Point("central", 99.0, 1.0, False),
    ]
    assert [point.label for point in front(every)] == ["cheap", "good"]
    falling = front(every, higher_is_better=False)
    assert [point.label for point in falling] == ["cheap"]


def drawn(out, found, **options):
    out.mkdir(exist_ok=True)
    write_results(found, out / "results.csv")
    return draw_all(ResultsFolder(out), **options)


def test_a_bench_has_a_picture_of_costs_where_two_strategies_know_theirs(tmp_path):
    two = rows("a", 80.0, megabytes=0) + rows("b", 70.0, megabytes=50)
    (path,) = drawn(tmp_path / "two", two, references={"b"}).files
    assert path.name == "costs-digits-iid-cnn.png"
    assert path.read_bytes().startswith(PNG)
    assert drawn(tmp_path / "one", rows("a", 80.0)).files == []


def test_pictures_hollow_who_has_a_run_without_a_result(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "fedkd.report.plots.draw_pareto",
        lambda panels, shown, path, title: seen.append(panels["bytes"]),
    )
    lost = replace(rows("b", 90.0, None)[1], status="failed")
    drawn(tmp_path, [*rows("a", 60.0, 60.0), *rows("b", 90.0), lost])
    assert [(p.label, p.competes) for p in seen[0]] == [("a", True), ("b", False)]


def blocks():
    return [
        row
        for label, accuracy in (("a", 90.0), ("b", 80.0), ("$c$", 70.0))
        for row in rows(label, *[accuracy] * 10)
    ]


def test_mean_ranks_are_drawn_with_bars_between_who_is_not_separated(tmp_path):
    names = [path.name for path in drawn(tmp_path, blocks()).files]
    assert names == ["costs-digits-iid-cnn.png", "ranks.png"]
    ranking = rank(blocks())
    near = {
        (one, other): scatter._are_near(ranking, one, other)
        for one, other in (("a", "b"), ("b", "$c$"), ("a", "$c$"))
    }
    assert near == {("a", "b"): True, ("b", "$c$"): True, ("a", "$c$"): False}


def test_without_its_package_the_diagram_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scikit_posthocs", None)
    (line,) = drawn(tmp_path, blocks()).failed
    assert line.endswith(
        "the diagram of mean ranks needs scikit-posthocs; install it with "
        "pip install 'fedkd[report]'."
    )


@pytest.mark.parametrize("values", [[0.0, 50.0], [1.0, 2.0], [3.0, 300.0]])
def test_an_axis_of_costs_shows_all_of_them(values, tmp_path):
    limits = []
    scale = scatter._scale

    def watch(axis, costs):
        scale(axis, costs)
        limits.append(axis.get_xlim())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scatter, "_scale", watch)
        every = [Point(f"s{i}", 50.0, value, True) for i, value in enumerate(values)]
        shown = looks(["s0", "s1"], ())
        scatter.draw_pareto({"seconds": every}, shown, tmp_path / "x.png", "t")
    ((low, high),) = limits
    assert low <= min(values)
    assert high >= max(values)
