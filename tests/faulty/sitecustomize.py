"""On PYTHONPATH, it makes some runs fail: `FAULTY_SEEDS` says which and how (`{"7": "kill"}`)."""

import importlib.abc
import importlib.util
import json
import os
import signal
import sys

SEEDS = json.loads(os.environ.get("FAULTY_SEEDS", "{}"))


def fail(how):
    if how == "raise":
        raise RuntimeError("made to fail")
    if how == "memory":
        raise MemoryError
    if how == "exit":
        sys.exit(9)
    if how == "exit at once":
        os._exit(9)
    os.kill(os.getpid(), signal.SIGKILL)


class Loader(importlib.abc.Loader):
    def __init__(self, real):
        self.real = real

    def create_module(self, spec):
        return self.real.create_module(spec)

    def exec_module(self, module):
        self.real.exec_module(module)
        run = module.run

        def faulty(config, *rest, **options):
            if str(config.seed) in SEEDS:
                fail(SEEDS[str(config.seed)])
            return run(config, *rest, **options)

        module.run = faulty


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "bnrepro.training.run":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        spec.loader = Loader(spec.loader)
        return spec


if SEEDS:
    sys.meta_path.insert(0, Finder())
