"""A program's streams take any text, and lose their reader without a word."""

import os
import subprocess
import sys

import pytest

SAY = """
import sys
from fedkd.base.streams import make_patient
make_patient()
for number in range(3000):
    print("中 ± \\udcff", file=sys.{stream}, flush=True)
open("ended", "w").close()
"""


def start(tmp_path, stream, **how):
    command = [sys.executable, "-c", SAY.format(stream=stream)]
    return subprocess.Popen(command, cwd=tmp_path, **how)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_goes_away_ends_nothing(tmp_path, stream):
    program = start(tmp_path, stream, **{stream: subprocess.PIPE})
    reader = getattr(program, stream)
    assert reader.readline()
    reader.close()
    assert program.wait(120) == 0
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("ascii", rb"\u4e2d \xb1 \udcff"),
        ("latin-1", b"\\u4e2d \xb1 \\udcff"),
        ("cp1252", b"\\u4e2d \xb1 \\udcff"),
        ("utf-8", "中 ± \\udcff".encode()),
    ],
)
def test_text_comes_out_in_any_encoding(tmp_path, encoding, said):
    told = {**os.environ, "PYTHONIOENCODING": encoding}
    program = start(tmp_path, "stdout", stdout=subprocess.PIPE, env=told)
    out, _ = program.communicate(timeout=120)
    assert out.splitlines()[-1] == said
    assert program.returncode == 0


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_stream_closed_at_the_start_leads_nowhere(tmp_path, closed):
    (tmp_path / "say.py").write_text(SAY.format(stream="stderr"), encoding="utf-8")
    line = f"{sys.executable} say.py {closed}"
    shell = ["sh", "-c", line]
    done = subprocess.run(shell, cwd=tmp_path, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
    assert (tmp_path / "ended").read_bytes() == b""
