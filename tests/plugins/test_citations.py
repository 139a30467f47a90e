"""BibTeX is made of the Paper line of a card, its only home."""

import pytest

from fedkd.plugins.cards import card, papers
from fedkd.plugins.citations import OURS, Paper, entries_of, papers_of
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
CITED = {
    f"{kind}-{name}": entry
    for kind in ("strategies", "datasets")
    for name, entry in REGISTRY.entries(kind).items()
    if entry.owner == "fedkd"
}


def test_a_line_becomes_an_entry():
    line = (
        'McMahan, Moore, Aguera y Arcas, "Communication-Efficient Learning of Deep '
        'Networks", AISTATS 2017, arXiv:1602.05629v4. Its appendix was not at hand.'
    )
    (paper,) = papers_of(line)
    assert paper == Paper(
        ("McMahan", "Moore", "Aguera y Arcas"),
        "Communication-Efficient Learning of Deep Networks",
        "AISTATS",
        "2017",
        "1602.05629v4",
    )
    assert paper.bibtex() == (
        "@inproceedings{mcmahan2017communication,\n"
        "  author = {McMahan and Moore and {Aguera y Arcas}},\n"
        "  title = {{Communication-Efficient Learning of Deep Networks}},\n"
        "  booktitle = {AISTATS},\n"
        "  year = {2017},\n"
        "  eprint = {1602.05629v4},\n"
        "  archiveprefix = {arXiv},\n"
        "}"
    )


def test_without_a_venue_the_year_is_that_of_arxiv():
    (paper,) = papers_of('Liu, Gao, "Mosaic: Experts", arXiv:2505.19699v1.')
    assert (paper.venue, paper.year) == ("", "2025")
    assert paper.bibtex().startswith("@misc{liu2025mosaic,")


def test_a_year_may_stand_alone():
    (paper,) = papers_of('Hsu, Qi, "Measuring", 2019, arXiv:1909.06335v1.')
    assert (paper.venue, paper.year, paper.arxiv) == ("", "2019", "1909.06335v1")


def test_a_doi_keeps_its_full_stops():
    (paper,) = papers_of('Li, Zhan, "FedRS", KDD 2021, doi:10.1145/3447548.3467254.')
    assert paper.doi == "10.1145/3447548.3467254"
    assert not paper.arxiv


def test_several_papers_are_several_entries():
    line = (
        'Reddi, Charles, "Adaptive Optimization", ICLR 2021, arXiv:2003.00295v5; '
        'FedAvgM: Hsu, Qi, "Measuring the Effects", arXiv:1909.06335v1.'
    )
    assert [p.key for p in papers_of(line)] == ["reddi2021adaptive", "hsu2019measuring"]
    assert papers_of(line)[1].authors == ("Hsu", "Qi")


def test_none_is_no_paper():
    line = 'none; (DENSE, arXiv:2112.12371v2, calls it "ensemble" in its tables).'
    assert papers_of(line) == []


def test_keys_leave_out_small_words_and_accents_and_are_unique():
    one = Paper(("Horváth",), "On the Way", year="2021")
    other = Paper(("Horvath",), "The way & back", year="2021")
    first, second = entries_of([one, other, one])
    assert first.startswith("@misc{horvath2021way,")
    assert second.startswith("@misc{horvath2021wayb,")
    assert r"{{The way \& back}}" in second


@pytest.mark.parametrize("name", CITED)
def test_a_card_has_the_entry_of_its_paper(name):
    entry = CITED[name]
    record = card(entry)
    line, found = record["paper"], papers(entry)
    assert record["bibtex"] == entries_of(found)
    assert bool(found) == bool(line and not line.startswith("none"))
    for paper in found:
        assert all(paper.authors)
        assert len(paper.title) > 8
        assert paper.year.isdigit()
    for paper in papers_of(line):
        assert f"arXiv:{paper.arxiv}" in line if paper.arxiv else "arXiv:" not in line


def test_a_presets_paper_comes_with_that_of_its_strategy():
    keys = [p.key for p in papers(REGISTRY.entry("strategies", "ccvr"))]
    assert keys == ["luo2021fear", "mcmahan2017communication"]
    assert "Luo, Chen, Hu" in card(REGISTRY.entry("strategies", "ccvr"))["paper"]


def test_fedkd_has_an_entry_with_its_version():
    assert OURS.startswith("@software{fedkd,\n  author = {{The fedkd authors}},\n")
    assert "version = {0.1.0}" in OURS
