"""The files of a release agree with one another."""

import re
import tomllib

import yaml
from conftest import ROOT

import bnrepro

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_one_version_is_in_all_files() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == bnrepro.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*)", changes, re.MULTILINE)[0] == bnrepro.__version__
    assert cited["license"] == PROJECT["project"]["license"]
    assert cited["message"]


def test_the_container_has_the_torch_that_the_package_asks_for() -> None:
    asked = PROJECT["project"]["dependencies"]
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for requirement in re.findall(r'"(torch.*?)"', dockerfile):
        assert requirement in asked
    for path in re.findall(r"^COPY (.*) /src/\S*$", dockerfile, re.MULTILINE):
        assert all((ROOT / name).exists() for name in path.split())


def test_what_is_run_with_the_sources_is_in_the_source_distribution() -> None:
    included = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert {"tests", "docs", "conf", "bnrepro", "mkdocs.yml"} <= {*included}
