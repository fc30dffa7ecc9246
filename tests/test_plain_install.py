"""The plain install, without any extra: no launcher is there, and each command says so."""

import json
import subprocess
import sys
from pathlib import Path

# As after `pip install .`: not even the package `hydra_plugins`, which launchers share, is there.
PLAIN = """
import contextlib, io, json, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hydra_plugins", "submitit", "ray"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from bnrepro.cli import main

def said(line):
    error = io.StringIO()
    with contextlib.redirect_stderr(error):
        return main(line.split()), error.getvalue()

print(json.dumps([said(line) for line in json.loads(sys.argv[1])]))
"""


def test_a_launcher_that_is_not_installed_is_named_with_what_to_install(tmp_path: Path) -> None:
    extras = {
        "joblib": "joblib",
        "ray": "ray",
        "submitit_local": "slurm",
        "submitit_slurm": "slurm",
    }
    sweeps = {f"sweep seed=0,1 hydra/launcher={name}": name for name in extras}
    asked = sweeps | {
        "reproduce faster-training hydra/launcher=joblib": "joblib",
        "train --cfg hydra hydra/launcher=submitit_slurm": "submitit_slurm",
    }
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, json.dumps(list(asked))],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    for (line, name), (code, error) in zip(asked.items(), json.loads(done.stdout), strict=True):
        said = f"launcher '{name}' is not installed: pip install '.[{extras[name]}]' in"
        assert error == f"bnrepro: error: {said} bnrepro's folder\n", line
        assert code == 2
    assert list(tmp_path.iterdir()) == []
