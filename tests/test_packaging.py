"""setup.py, the constraints and the list of tested versions agree."""

import ast
import re
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from btcchat.compat.versions import TESTED

ROOT = Path(__file__).resolve().parents[1]
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")


def listed(name: str) -> list[Requirement]:
    """A list of requirements in setup.py."""
    values = (
        node.value for node in ast.parse(SETUP).body if isinstance(node, ast.Assign) and node.targets[0].id == name
    )
    return [Requirement(text) for text in ast.literal_eval(next(values))]


def constraints(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {package.lower().replace("_", "-"): version for package, version in pairs}


def outside(requirements: list[Requirement], versions: dict[str, str]) -> list[str]:
    """The requirements that a set of versions does not meet or lacks."""
    named = {str(one): versions.get(one.name.lower().replace("_", "-")) for one in requirements}
    return [text for text, version in named.items() if version is None or version not in Requirement(text).specifier]


def test_both_tested_sets_of_versions_meet_the_requirements():
    always = [*listed("REQUIRED"), *listed("EVAL"), *listed("TRAIN"), *listed("SERVE"), *listed("DOCS")]
    assert outside(always, constraints("current")) == []
    assert outside([*always, *listed("PINNED")], constraints("pinned")) == []
    assert outside(listed("PINNED"), constraints("current")), "the check can fail"


def test_the_oldest_and_newest_tested_versions_are_those_of_the_constraints():
    assert constraints("pinned")["transformers"] == "4.36.2"
    assert constraints("pinned")["transformers"].startswith(TESTED[0])
    assert constraints("current")["transformers"].startswith(f"{TESTED[-1]}.")
    assert {constraints(name)["torch"] for name in ("pinned", "current")} == {"2.13.0"}


def test_the_supported_pythons_are_3_10_to_3_13():
    supported = SpecifierSet(re.search(r'python_requires="(.+?)"', SETUP)[1])
    assert [f"3.{minor}" for minor in range(9, 15) if f"3.{minor}" in supported] == ["3.10", "3.11", "3.12", "3.13"]


def test_the_metadata_files_of_the_repository_can_be_read():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert any(step.get("run") == ".ci/run" for job in workflow["jobs"].values() for step in job["steps"])
    for form in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(form.read_text(encoding="utf-8")), form.name
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = re.search(r'__version__ = "(.+)"', (ROOT / "btcchat/__init__.py").read_text(encoding="utf-8"))[1]
    assert citation["version"] == version
    assert [one["identifiers"][0]["value"] for one in citation["references"]] == [
        "arXiv:2509.05895",
        "arXiv:2412.20742",
        "arXiv:2411.11360",
    ]
    assert re.search(rf"^## \[{re.escape(version)}\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
