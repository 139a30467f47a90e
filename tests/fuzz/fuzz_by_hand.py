"""Malformed files into every reader of files: each is refused, and nothing else happens.

``python tests/fuzz/fuzz_by_hand.py`` feeds 10,000 to each target, made by the rules of
``fuzz_mutations.py``; ``--guided`` lets atheris look for files that reach new code of
fedkd (``pip install 'fedkd[fuzz]'``). Of each file it is asked whether

* it was refused with an error of ours, or read: then it is sound;
* anything else was raised;
* it took longer than a second of a core, or more memory than the target may: 64 MiB for
  all of its files together, but for images;
* anything was run, imported, unpickled or written outside of the temporary folder.

What does harm is kept in ``build/fuzz/<target>``; mend it, and put it into
``tests/fuzz/corpus/<target>``, which the tests replay.
"""

import argparse
import hashlib
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter

SECONDS = 1.0
"""Of a core, that a file may take."""
FIRST = 300
"""Files after which memory is looked at: libraries have made their own room by then."""
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "pty.spawn",
)
FORBIDDEN += (
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "ctypes.dlopen",
)
FORBIDDEN += ("exec", "import", "marshal.loads", "shutil.rmtree", "webbrowser.open")
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink")
CHANGES += ("os.truncate", "os.chmod", "shutil.copyfile", "shutil.move")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Guard:
    """Notes whatever a reader does beside reading, by the interpreter's own hooks."""

    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.armed = False
        self.seen = []
        sys.addaudithook(self._hook)

    def _hook(self, event, args):
        if not self.armed:
            return
        if event in FORBIDDEN or (event in CHANGES and self._is_outside(args[0])):
            self.seen.append(f"{event} {args[:2]!r}"[:200])
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITING
        if writes and self._is_outside(args[0]):
            self.seen.append(f"open {args!r}"[:200])

    def _is_outside(self, path):
        if isinstance(path, int):
            return False  # what is open already
        place = os.path.realpath(os.fsdecode(path))
        return not place.startswith((self.folder, "/dev/null"))


def memory():
    """Return the most bytes that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Watch:
    """Feeds files to a target and counts what becomes of them."""

    def __init__(self, target, guard, harmful):
        self.target = target
        self.guard = guard
        self.harmful = harmful
        self.counts = Counter()
        self.slowest = 0.0
        self.base = 0
        self.kept = set()

    def feed(self, data):
        """Feed one file; return what became of it."""
        started = time.process_time()  # whoever else is at work on the machine
        self.guard.seen.clear()
        self.guard.armed = True
        leaked = None
        try:
            what = "read" if self.target(data) else "refused"
        except Exception as error:
            what, leaked = f"leaked {type(error).__name__}", error
        finally:
            self.guard.armed = False
        took = time.process_time() - started
        self.counts[what] += 1
        if leaked is not None:
            self._keep(data, what, f"{_place(leaked)}: {leaked}"[:300])
        self._look(data, took)
        return what

    def _look(self, data, took):
        self.slowest = max(self.slowest, took)
        if took > SECONDS:
            self._keep(data, "slow", f"{took:.1f} s")
        if self.guard.seen:
            self._keep(data, "did", "; ".join(self.guard.seen)[:300])
        number = sum(self.counts.values())
        if number == FIRST:
            self.base = memory()
        if number > FIRST and memory() > self.base + self.target.growth:
            self._keep(data, "large", f"{(memory() - self.base) >> 20} MiB more")
            self.base = memory()

    def _keep(self, data, what, why):
        self.counts[what] += not what.startswith("leaked")
        if (what, why[:80]) in self.kept:
            return
        self.kept.add((what, why[:80]))
        self.harmful.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(data).hexdigest()[:12]
        name = f"{what.replace(' ', '-')}-{digest}"
        (self.harmful / name).write_bytes(data)
        print(f"  {self.harmful / name}: {why}", flush=True)

    @property
    def is_clean(self):
        return set(self.counts) <= {"read", "refused"}

    def told(self):
        counts = ", ".join(f"{n:,} {what}" for what, n in sorted(self.counts.items()))
        grown = (memory() - self.base) >> 20
        return (
            f"{self.target.name}: {counts}; slowest {self.slowest:.2f} s; peak "
            f"{memory() >> 20} MiB, {grown} MiB of it after the first {FIRST}"
        )


def _place(error):
    where = error.__traceback__
    while where.tb_next is not None:
        where = where.tb_next
    return f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}"


def by_rules(watch, seeds, number, seed):
    """Feed sound files, then malformed ones until ``number`` of them were refused."""
    from fuzz_mutations import malformed

    rng = random.Random(seed)
    for data in seeds:
        assert watch.feed(data) == "read", "a sound file was refused"
    name = watch.target.name
    pool = list(seeds)
    while watch.counts["refused"] < number and sum(watch.counts.values()) < 4 * number:
        data = malformed(name, rng.choice(pool), rng)
        # What is read all the same is changed further: it goes deeper than a sound one.
        if watch.feed(data) == "read" and len(pool) < 200 and len(data) < 20_000:
            pool.append(data)


def guided(watch, seeds, number, seed):
    """Have atheris feed files; it ends the process when it has done."""
    import atheris
    from fuzz_mutations import malformed

    def one(data):
        watch.feed(data)
        if sum(watch.counts.values()) >= number:
            print(watch.told(), flush=True)
            sys.stdout.flush()
            os._exit(0 if watch.is_clean else 1)

    def mutate(data, longest, own):
        rng = random.Random(own)
        if rng.random() < 0.3:
            return atheris.Mutate(data, longest)
        return malformed(watch.target.name, data, rng)[:longest]

    corpus = watch.harmful / "seeds"
    corpus.mkdir(parents=True, exist_ok=True)
    for place, data in enumerate(seeds):
        watch.feed(data)  # modules that are imported late are imported now
        (corpus / f"sound-{place}").write_bytes(data)
    options = (f"-seed={seed + 1}", "-max_len=65536", "-rss_limit_mb=0", "-verbosity=0")
    atheris.Setup([sys.argv[0], str(corpus), *options], one, custom_mutator=mutate)
    atheris.Fuzz()


def warmed(target, seeds):
    """Read each sound file once, so that what is imported late is there."""
    for data in seeds:
        assert target(data), f"{target.name}: a sound file was refused"
        target(data[: len(data) // 2])
        target(b"")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all by default")
    parser.add_argument("--number", type=int, default=10_000, help="of refused files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", action="store_true", help="one target, by atheris")
    asked = parser.parse_args()
    if asked.guided:
        import atheris

        with atheris.instrument_imports(include=["fedkd"]):
            import fuzz_targets
    else:
        import fuzz_targets
    names = asked.targets or list(fuzz_targets.TARGETS)
    if asked.guided and len(names) != 1:
        parser.error(f"--guided is for one target: {', '.join(fuzz_targets.TARGETS)}")
    clean = True
    with tempfile.TemporaryDirectory() as folder:
        guard = Guard(folder)
        for name in names:
            target = fuzz_targets.made(name, folder)
            seeds = list(target.seeds())
            warmed(target, seeds)
            watch = Watch(target, guard, fuzz_targets.ROOT / "build/fuzz" / name)
            run = guided if asked.guided else by_rules
            run(watch, seeds, asked.number, asked.seed)
            print(watch.told(), flush=True)
            clean = clean and watch.is_clean
    return 0 if clean else 1


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
