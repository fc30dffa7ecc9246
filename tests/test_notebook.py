"""The notebook runs as it stands, on short runs."""

from pathlib import Path

import nbformat
import pytest
from conftest import ROOT

from bnrepro.cli import main

NOTEBOOK = ROOT / "docs" / "fig1.ipynb"
SHORT = ("experiment=digits", "train.steps=300", "probe.every=100", "tensorboard=false")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_the_notebook_draws_the_figure(tmp_path: Path) -> None:
    from nbclient import NotebookClient

    for norm, name in (("batch", "with-bn"), ("none", "without-bn")):
        assert main(["train", *SHORT, f"norm={norm}", f"run.dir={tmp_path / 'runs' / name}"]) == 0
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=240, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    table = next(output.data["text/plain"] for output in outputs if "data" in output)
    assert "batch" in table
    assert "none" in table
    assert "test_accuracy" in table


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
