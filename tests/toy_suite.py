"""The suite that tests of benches run: the toy data of the plug-in, seconds in all."""

from pathlib import Path

PLUGIN = str(Path(__file__).parent / "plugins" / "toy_plugin.py")


def toy_suite(strategies="toy-mean", seeds="[0, 1]"):
    """Return the text of a suite."""
    return f"""\
name: toy
rounds: 3
clients: 3
seeds: {seeds}
datasets: [toy]
partitions: [iid]
models: [toy-linear]
training: {{local_steps: 2, batch_size: 8, lr: 0.05}}
checkpoint_every: 1
strategies: [{strategies}]
"""
