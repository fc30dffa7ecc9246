"""Guests: what docs/extending.md and docs/library.md say works as it stands there."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore

import bnrepro
from bnrepro import load_run
from bnrepro.cli import main
from bnrepro.config import options as options_module
from bnrepro.store import StoredRun

DOCS = Path(__file__).parents[1] / "docs"
TINY = [
    "train.steps=30",
    "train.eval_every=15",
    "probe.every=15",
    "probe.size=50",
    "tensorboard=false",
    "device=cpu",
]


def documented() -> dict[str, str]:
    """The files of the guest package in the documentation, by their paths."""
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def entry_points(pyproject: str) -> str:
    """Those of a pyproject.toml as a wheel lists them."""
    text = pyproject[pyproject.index("[project.entry-points") :]
    return re.sub(r'\[project\.entry-points\."(.*?)"\]', r"[\1]", text).replace('"', "")


def install(files: dict[str, str], folder: Path, name: str = "bnrepro-extra") -> Path:
    """Build a wheel and install it with pip into a folder of its own."""
    module, info = name.replace("-", "_"), f"{name.replace('-', '_')}-1.0.dist-info"
    contents = {path: text for path, text in files.items() if path != "pyproject.toml"}
    contents |= {
        f"{module}/__init__.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": entry_points(files["pyproject.toml"]),
    }
    wheel = folder / f"{module}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(path, text)
        record = "".join(f"{path},,\n" for path in contents)
        archive.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    target = folder / "installed"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    return target


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(documented(), tmp_path_factory.mktemp("guest"))


def command(guests: Path, *words: str, code: int = 0) -> str:
    """What a command prints where the guest package is installed."""
    path = os.pathsep.join([str(guests), str(Path(bnrepro.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "bnrepro", *words],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_guests_norm_model_and_data_set_are_trained_with(installed: Path, tmp_path: Path) -> None:
    line = ["dataset=stripes", "model=onelayer", "optimizer.lr=0.5", *TINY]
    command(installed, "train", *line, "norm=batch", f"run.dir={tmp_path / 'conv'}")
    run = StoredRun(tmp_path / "conv")
    assert load_run(run.folder).summary["test_accuracy"] > 0.9
    assert run.manifest()["packages"] == {
        "model": "bnrepro-extra 1.0",
        "dataset": "bnrepro-extra 1.0",
    }
    assert run.manifest()["classes"] == ["across", "down"]
    assert "finished already" in command(
        installed, "train", *line, "norm=batch", f"run.dir={tmp_path / 'conv'}"
    )

    grid = ["sweep", "dataset=digits", "norm=rms,none", "optimizer.lr=0.1,0.2", *TINY]
    command(installed, *grid, f"sweep.dir={tmp_path / 'sweep'}", "--stack", "2")
    made = [StoredRun(path.parent) for path in (tmp_path / "sweep").glob("*/summary.json")]
    norms = [run.config()["norm"] for run in made]
    assert sorted(norm["name"] for norm in norms) == ["none", "none", "rms", "rms"]
    for run in made:
        rms = run.config()["norm"]["name"] == "rms"
        assert run.manifest().get("packages") == ({"norm": "bnrepro-extra 1.0"} if rms else None)
        assert ("stacked" in run.manifest()) == (not rms)


def test_a_guests_options_are_listed_as_ours_are(installed: Path) -> None:
    assert "rms" in command(installed, "train", "--help")
    wrong = command(installed, "train", "norm=rmss", code=2)
    assert "did you mean 'rms'?" in wrong
    assert "it must be above" not in wrong
    refused = command(installed, "train", "model=inception", "norm=rms", code=2)
    assert "bad value rms (norm): it must be batch, none, torch, noisy, layer," in refused
    assert refused.rstrip().endswith(" with model=inception")
    code = "from bnrepro.config.complete import complete; print(complete([], 'norm=r'))"
    path = os.pathsep.join([str(installed), str(Path(bnrepro.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['norm=rms']"


def test_a_guests_claim_is_judged(installed: Path, tmp_path: Path) -> None:
    listed = json.loads(command(installed, "claims", "--json"))
    assert "extra-claim" in [row["claim"] for row in listed]
    out = tmp_path / "out"
    command(
        installed,
        "reproduce",
        "extra-claim",
        "--scale",
        "smoke",
        "--jobs",
        "1",
        "--seeds",
        "1",
        "--out",
        str(out),
    )
    assert "bnrepro-extra 1.0" in (out / "report.md").read_text()
    assert "extra-claim" in json.loads((out / "results.json").read_text())["claims"]


def test_a_claim_in_a_folder_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bnrepro import claims

    monkeypatch.setattr(claims, "_folders", {})
    folder = tmp_path / "claims"
    folder.mkdir()
    text = documented()["bnrepro_extra/claim.py"].replace("norm=rms", "norm=batch")
    (folder / "my_claim.py").write_text(text)
    (folder / "_helpers.py").write_text("1 / 0\n")
    assert main(["claims", "--claims-dir", str(folder)]) == 0
    assert "my-claim" in capsys.readouterr().out
    (folder / "broken.py").write_text("1 / 0\n")
    assert main(["reproduce", "broken", "--claims-dir", str(folder), "--out", "x"]) == 2
    said = capsys.readouterr().err
    assert "claim 'broken' cannot be loaded: ZeroDivisionError" in said
    (folder / "ensemble.py").write_text(text)
    assert main(["claims", "--claims-dir", str(folder)]) == 2
    assert "two claims 'ensemble'" in capsys.readouterr().err
    assert main(["claims", "--claims-dir", str(tmp_path / "nowhere")]) == 2


def test_a_norm_within_the_package_is_an_edit_of_three_files(tmp_path: Path) -> None:
    root = DOCS.parent
    for folder in ("bnrepro", "conf"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pyc*"))
    package, schema = tmp_path / "bnrepro", tmp_path / "bnrepro" / "config" / "schema.py"
    source = documented()["bnrepro_extra/rms.py"]
    settings = source[source.index("@dataclass") : source.index("def make")]
    (package / "nn" / "rms.py").write_text(source[source.index("def make") : source.index("ENTRY")])
    (tmp_path / "conf" / "norm" / "rms.yaml").write_text(documented()["bnrepro_extra/rms.yaml"])
    model = "@dataclass\nclass Model("
    text = schema.read_text().replace(model, settings + model)
    row = '    "norm": {\n'
    text = text.replace(row, f'{row}        "rms": Entry(Rms, "bnrepro.nn.rms:make"),\n')
    schema.write_text(text)
    changed = [
        str(path.relative_to(tmp_path))
        for path in sorted(tmp_path.rglob("*.*"))
        if path.is_file()
        and "outputs" not in path.parts
        and (
            not (mine := root / path.relative_to(tmp_path)).is_file()
            or mine.read_bytes() != path.read_bytes()
        )
    ]
    assert changed == ["bnrepro/config/schema.py", "bnrepro/nn/rms.py", "conf/norm/rms.yaml"]
    line = ["train", "norm=rms", "dataset=digits", *TINY, f"run.dir={tmp_path / 'run'}"]
    done = subprocess.run(
        [sys.executable, "-m", "bnrepro", *line],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert StoredRun(tmp_path / "run").config()["norm"] == {"name": "rms", "eps": 1e-5}


@pytest.mark.parametrize(
    ("text", "instead", "told"),
    [
        ("    placement =", "    _ =", "Rms does not say 'placement'"),
        ("    needs_batch =", "    _ =", "Rms does not say 'needs_batch'"),
        ("    dimensions =", "    _ =", "Rms does not say 'dimensions'"),
        ("    from torch import nn", "", "NameError: name 'nn' is not defined"),
        ("def make(", "def other(", "no half.rms:make"),
        ("@dataclass\n", "", "Rms is no dataclass derived from Norm"),
        ("Rms(Norm)", "Rms", "Rms is no dataclass derived from Norm"),
        ("class Rms", "class Other", "NameError: name 'Rms' is not defined"),
        ("= Entry(Rms", "= print(Rms", "is no Entry"),
        (".yaml", ".yml", "no default values"),
    ],
)
def test_a_norm_that_is_half_there_says_what_is_missing(
    text: str,
    instead: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = documented()
    source = files["bnrepro_extra/rms.py"].replace(text, instead)
    assert source != files["bnrepro_extra/rms.py"]
    package, info = tmp_path / "half", tmp_path / "half-2.0.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").touch()
    (package / "rms.py").write_text(source)
    (package / "rms.yaml").write_text(files["bnrepro_extra/rms.yaml"])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[bnrepro.norms]\nrms = half.rms:ENTRY\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    options_module._options.cache_clear()
    try:
        line = ["train", "dataset=digits", *TINY]
        assert main([*line, "norm=rms", f"run.dir={tmp_path / 'run'}"]) == 2
        said = capsys.readouterr().err
        assert f"norm=rms cannot be used: {told}" in said or told in said
        assert "(half 2.0): mend or remove it" in said
        assert main([*line, "norm=none", "--cfg", "job"]) == 0  # the others still work
    finally:
        options_module._options.cache_clear()
        ConfigStore.instance().repo.get("norm", {}).pop("rms.yaml", None)
        for name in [name for name in sys.modules if name.partition(".")[0] == "half"]:
            del sys.modules[name]


def test_the_library_is_used_as_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for norm in ("batch", "none"):
        line = ["train", f"norm={norm}", "dataset=digits", *TINY, f"run.dir={tmp_path}/runs/{norm}"]
        assert main(line) == 0
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "library.md").read_text(encoding="utf-8")
    scope: dict[str, Any] = {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(block, scope)
    assert scope["bands"].shape == (3, 100, 3)
    assert list(scope["steps"]) == [0, 15, 30]
    assert len(scope["table"]) == 2
    assert scope["run"].metrics.index.tolist()[:1] == [0]


def test_the_library_loads_what_is_used() -> None:
    code = (
        "import sys, bnrepro; {}; print(*sorted({{'torch', 'pandas', 'hydra'}} & set(sys.modules)))"
    )

    def loaded(use: str) -> str:
        line = [sys.executable, "-c", code.format(use)]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip()

    assert loaded("pass") == ""
    assert loaded("bnrepro.load_run") == ""
    assert "torch" in loaded("bnrepro.BatchNorm1d")
    assert set(bnrepro.__all__) <= set(dir(bnrepro))
    with pytest.raises(AttributeError, match="no attribute 'BatchNorm4d'"):
        bnrepro.BatchNorm4d  # noqa: B018
