"""What goes into a paper: LaTeX that compiles, tidy values, figures with their fonts."""

import csv
import html
import io
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from fedkd.metrics.classification import Loss
from fedkd.report.curves import Curve, draw_curves, fill_panel
from fedkd.report.escaping.latex import breakable, escaped
from fedkd.report.figures import figure_in
from fedkd.report.grouping import GLOBAL
from fedkd.report.looks import look, looks
from fedkd.report.paper.latex import tables_latex
from fedkd.report.paper.pictures import PaperFigure, _named, draw_panels
from fedkd.report.paper.tidy import tidy_text
from fedkd.report.results import Row

LONG = (
    "mosaic-origin-rolling-with-a-label-that-somebody-chose-to-be-very-long-indeed-x1"
)


def rows(label, *accuracies, **changes):
    values = {
        "suite": "my_suite", "strategy": label, "dataset": "digits",
        "partition": "dirichlet", "alpha": 0.1, "models": "cnn", "clients": 10,
        "rounds": 20, "status": "done", "global_of": "model",
    } | changes  # fmt: skip
    name = f"{label}-{values['dataset']}-{values['partition']}{values['alpha']}"
    return [
        Row(
            **values, seed=seed, global_accuracy=accuracy, run_id=f"{name}-s{seed}",
            local_accuracy=accuracy, split_hash=f"{values['alpha']}{seed}",
        )
        for seed, accuracy in enumerate(accuracies)
    ]  # fmt: skip


def lost(label, reason, status="failed"):
    (row,) = rows(label, None, status=status)
    return replace(row, seed=1, reason=reason, run_id=f"{label}-lost", split_hash="")


def lines_of(text, start):
    return [line for line in text.splitlines() if line.startswith(start)]


def test_every_letter_that_means_something_else_is_escaped():
    assert escaped(r"a_b&c%d#e$f{g}~h^i\j") == (
        r"a\_b\&c\%d\#e\$f\{g\}\textasciitilde{}h\textasciicircum{}i\textbackslash{}j"
    )
    assert (
        escaped("é ñ ß λ ± 中\n--")
        == r"\'{e} \~{n} {\ss} $\lambda$ $\pm$ $<$4e2d$>$ -{}-"
    )
    assert breakable("a-b_c, d") == r"a-\allowbreak{}b\_\allowbreak{}c, d"


def test_numbers_are_in_columns_that_fit_them_and_marks_are_those_of_the_page():
    found = [
        *rows("best", 99.0, 99.5, 100.0),
        *rows("second", 80.0, 80.6, 80.9),
        *rows("third", 9.0, 9.6, 10.0),
        *rows("fedbn", 60.0, 75.0, 90.0, global_of="clients"),
        *rows("central", 100.0, 100.0, 100.0),
    ]
    text = tables_latex(found, title="my_suite", references={"central"})
    page = text.partition(r"\caption{Local")[0]
    assert "S[table-format=3.2(2.2)]" in page
    (best,) = lines_of(page, "best &")
    assert best == r"best & \fontseries{b}\selectfont 99.50 +- 0.50 \\"
    (second,) = lines_of(page, "second &")
    inner = r"$\num{80.50} \pm \phantom{0}\num{0.46}$"
    number = rf"\phantom{{\num{{0}}}}\underline{{{inner}}}"
    assert second == rf"second & {{{number}}} \\"
    assert lines_of(page, "third &") == [r"third & 9.53 +- 0.50 \\"]
    assert lines_of(page, "fedbn") == [r"fedbn~$\ddagger$ & 75.00 +- 15.00 \\"]
    assert lines_of(page, "central") == [r"central~$\dagger$ & 100.00 +- 0.00 \\"]
    assert r"$\ddagger$ has no global model: its value here" in page
    assert r"\caption{Global accuracy (\%): my\_suite.}" in page
    assert r"\label{tab:global-accuracy-my-suite}" in page


def test_who_has_no_global_model_in_one_setting_has_the_sign_at_its_number():
    found = [
        *rows("a", 80.0, 90.0),
        *rows("a", 80.0, 90.0, dataset="mnist", global_of="clients"),
    ]
    page = tables_latex(found, title="t").partition(r"\caption{Local")[0]
    (line,) = lines_of(page, "a")
    _, here, there = line.split(" & ")
    assert "ddagger" not in here
    assert r"\textsuperscript{$\ddagger$}" in there
    assert r"$\ddagger$ in some settings only has no global model there" in page


def test_what_is_not_separated_or_lost_is_in_the_notes():
    found = [
        *rows("a", 80.0, 90.0, 85.0),
        *rows("b", 79.0, 88.0, 86.0),
        *rows("c", 50.0),
        lost("c", "ValueError: 100 % of {x}"),
        *[replace(row, status="skipped", reason="needs public data", global_accuracy=None,
                  local_accuracy=None) for row in rows("d", 0.0, 0.0)],
    ]  # fmt: skip
    text = tables_latex(found, title=None)
    assert lines_of(text, "a &")[0] == (
        r"a & 85.00 +- 5.00{\rlap{\textsuperscript{$\approx$}}} \\"
    )
    assert lines_of(text, "c &")[0] == r"c & 50.00{\rlap{\textsuperscript{a}}} \\"
    assert lines_of(text, "d &")[0] == r"d & {skipped} \\"
    assert r"\textsuperscript{a}~n = 1, 1 failed." in text
    assert "n = 3, but where a note says otherwise" in text
    assert r"a above b: +0.67 $\pm$ 1.53 [-3.13, +4.46], about 23 seeds" in text
    assert r"Failed: c: ValueError: 100 \% of \{x\}." in text
    assert "Skipped: d: needs public data." in text
    assert r"\caption" not in text


def wide():
    labels = ["fedavg", "fedbn", r"x$^{2}$ & ~\#é中λ_%", LONG]
    parts = [("dirichlet", 0.1), ("dirichlet", 1.0), ("iid", None)]
    found = [
        row
        for dataset in ("digits", "fashion-mnist", "cifar10[fraction=0.1,partial=True]")
        for place, label in enumerate(labels)
        for partition, alpha in parts
        for row in rows(
            label, 9.0 + 20 * place, 15.0 + 20 * place, 12.0 + 20 * place,
            dataset=dataset, partition=partition, alpha=alpha,
            global_of="clients" if label == "fedbn" else "model",
        )
    ]  # fmt: skip
    return [*found, lost("fedavg", r"C:\new_dir & 100 % of {x} #1 ~ ^ $y$")]


def test_settings_without_room_stand_below_and_data_sets_stay_together():
    text = tables_latex(wide(), title="t").partition(r"\caption{Local")[0]
    heads = re.findall(r"\\multicolumn\{3\}\{c\}\{(.*?)\}", text)
    assert heads[:2] == ["digits", "fashion-mnist"]
    assert text.count(r"\begin{tabular}") == 3
    assert text.count(r"\begin{minipage}") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
@pytest.mark.parametrize(("width", "options"), [("page", ""), ("column", "twocolumn")])
def test_it_compiles_by_input_and_nothing_is_too_wide(tmp_path, width, options):
    one = [*rows("a", 80.0), *rows(LONG, 7.0)]
    many = [row for i in range(60) for row in rows(f"m{i}", 50.0 + i, 51.0 + i)]
    for name, found in (("wide", wide()), ("one", one), ("many", many)):
        text = tables_latex(found, title=name, references={LONG}, width=width)
        assert text.isascii()
        (tmp_path / f"{name}.tex").write_text(text)
    packages = [line[3:] for line in lines_of(text, "%") if "usepackage" in line]
    (tmp_path / "paper.tex").write_text(
        "\n".join(
            [
                rf"\documentclass[{options}]{{article}}",
                *(line.partition("%")[0] for line in packages),
                r"\begin{document}\input{wide}\input{one}\input{many}\end{document}",
            ]
        )
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "Overfull" not in log
    assert "Float too large" not in log
    assert "Missing character" not in log


def test_tidy_values_are_a_line_a_run_and_metric(tmp_path):
    pandas = pytest.importorskip("pandas")
    known = {"bytes_up": 4, "seconds": 1.5, "axes": (("training.lr", "0.1"),)}
    found = [
        *rows("a", 80.0, 82.0, metrics={"global_loss": 0.5}, **known),
        lost("a, b", "no"),
    ]
    text = tidy_text(found, Loss().columns("loss"))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["metric"] for line in lines if line["seed"] == "0"] == [
        "global_accuracy", "local_accuracy", "global_loss", "bytes_up", "seconds",
    ]  # fmt: skip
    assert [line["unit"] for line in lines[:5]] == ["%", "%", "nats", "bytes", "s"]
    assert (lines[0]["round"], lines[0]["training.lr"]) == ("20", "0.1")
    frame = pandas.read_csv(io.StringIO(text))
    values = frame.pivot(index="run_id", columns="metric", values="value")
    assert values.loc["a-digits-dirichlet0.1-s1", "global_accuracy"] == 82.0
    assert values.loc["a-digits-dirichlet0.1-s1", "bytes_up"] == 4
    failed = frame[frame["status"] == "failed"]
    assert failed["metric"].tolist() == ["global_accuracy", "local_accuracy"]
    assert failed["value"].isna().all()


def test_no_two_of_the_first_strategies_look_equal_and_references_take_no_colour():
    labels = [f"s{i}" for i in range(24)]
    shown = looks(["local", *labels, "ensemble"], {"local", "ensemble"})
    assert (
        len({(one.colour, one.marker, str(one.dash)) for one in shown.values()}) == 26
    )
    assert shown["s0"] == look(0)
    local, ensemble = shown["local"], shown["ensemble"]
    assert local.marker != ensemble.marker
    assert local.dash != ensemble.dash
    assert local.colour != ensemble.colour


def curve(label, number, values, seeds=1, rounds=9):
    x = np.arange(1.0, rounds + 1)
    values = np.stack([np.full(rounds, values + seed) for seed in range(seeds)])
    return Curve(label, values, x, x, x, look=look(number))


def test_a_legend_has_the_signs_of_tables_in_their_order():
    out = Curve("local", *[np.ones((1, 1))] * 4, look=look(0, True), of_clients=True)
    assert _named(out) == "local † ‡"
    assert _named(replace(out, look=look(0))) == "local ‡"


def lines_in(curves, tmp_path):
    with figure_in(3, 3, tmp_path / "x.png") as figure:
        axis = figure.subplots()
        fill_panel(axis, curves, "rounds", span=50.0)
        return [
            (line, axis.collections, line.get_markevery()) for line in axis.get_lines()
        ]


def test_curves_that_look_equal_show_in_each_others_gaps(tmp_path):
    equal = [curve("a", 0, 50.0), curve("b", 1, 50.1), curve("c", 2, 90.0)]
    (a, _, of_a), (b, _, of_b), (c, *_) = lines_in(equal, tmp_path)
    assert not set(range(9)[of_a]) & set(range(9)[of_b])
    patterns = [line._unscaled_dash_pattern for line in (a, b, c)]
    assert patterns == [(0, (3.5, 3.5)), (3.5, (3.5, 3.5)), (0, None)]
    points = [curve(name, i, 50.0, rounds=1) for i, name in enumerate("abc")]
    sizes = [line.get_markersize() for line, *_ in lines_in(points, tmp_path)]
    assert sizes == sorted(set(sizes), reverse=True)


def test_many_curves_have_bars_at_the_end_in_place_of_bands(tmp_path):
    few = lines_in([curve(str(i), i, 9.0 * i, seeds=3) for i in range(3)], tmp_path)
    assert len(few[0][1]) == 3
    many = lines_in([curve(str(i), i, 9.0 * i, seeds=3) for i in range(4)], tmp_path)
    assert len(many[0][1]) == 0
    bars = [line for line, *_ in many if len(line.get_xdata()) == 2]
    assert [tuple(bar.get_ydata()) for bar in bars] == [
        (9.0 * i, 9.0 * i + 2) for i in range(4)
    ]
    assert len({bar.get_xdata()[0] for bar in bars}) == 4


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_a_figure_is_as_wide_as_it_says_with_its_letters(tmp_path, kind):
    names = [LONG, "fedavg", "x_$y$", *(f"method-{i}" for i in range(9))]
    curves = [curve(name, i, 5.0 * i, seeds=2) for i, name in enumerate(names)]
    path = tmp_path / f"x.{kind}"
    draw_panels({"iid": curves}, GLOBAL, path, PaperFigure(kind=kind), "a title")
    data = path.read_bytes()
    draw_panels({"iid": curves}, GLOBAL, path, PaperFigure(kind=kind), "a title")
    assert path.read_bytes() == data
    if kind == "svg":
        assert b'width="237.6pt"' in data
        assert ">fedavg</text>" in data.decode()
        assert ">x_$y$</text>" in data.decode()
    elif kind == "pdf":
        assert b"/MediaBox [ 0 0 237.6 " in data
        assert b"/FontFile2" in data
        assert b"/Type3" not in data
    else:
        assert int.from_bytes(data[16:20], "big") == 990


def test_pictures_of_a_bench_can_be_of_any_kind(tmp_path):
    draw_curves([curve("a", 0, 5.0)], GLOBAL, tmp_path / "x.svg", "t")
    assert (tmp_path / "x.svg").read_bytes().startswith(b"<?xml")


def test_a_long_title_goes_on_in_a_second_line_and_is_no_formula(tmp_path):
    path = tmp_path / "x.svg"
    title = "accuracy: folder[path=/a$b$/<i>|x], \n dirichlet 0.1, ten clients"
    for wanted in (PaperFigure(kind="svg"), PaperFigure(kind="svg", width="page")):
        draw_panels({"iid": [curve("a", 0, 5.0)]}, GLOBAL, path, wanted, title)
        said = re.findall(r">([^<>]+)</t(?:ext|span)>", path.read_text("utf-8"))
        flat, texts = " ".join(title.split()), map(html.unescape, said)
        lines = [text for text in texts if len(text) > 5 and text in flat]
        assert " ".join(lines) == flat
        assert len(lines) == (2 if wanted.width == "column" else 1)
