"""The files of the project that only other machines run: they parse, and name what is there."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import redsched

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
PACKAGE = ROOT / "redsched"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def parsed(path: Path) -> Any:
    yaml = pytest.importorskip("yaml", reason="pyyaml is of the group `dev`")
    return yaml.safe_load(path.read_text())


def steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def ids(path: Path) -> str:
    return path.name


def test_there_are_workflows_and_forms() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "release.yml"]
    assert [path.name for path in FORMS] == ["bug.yml", "config.yml", "feature.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_a_workflow_may_only_read_and_ends_in_time(path: Path) -> None:
    workflow = parsed(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert True in workflow, "YAML reads `on` as a boolean"
    assert all(job["timeout-minutes"] <= 90 for job in workflow["jobs"].values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=ids)
def test_each_step_of_a_workflow_runs_a_file_that_exists_or_an_action_of_a_version(path: Path) -> None:
    for step in steps(parsed(path)):
        assert ("run" in step) != ("uses" in step)
        assert re.fullmatch(r"[\w-]+/[\w-]+@(v\d+|release/v\d+)", step.get("uses", "a/b@v1"))
        for name in re.findall(r"\.ci/[\w.-]+", step.get("run", "")):
            assert (ROOT / name).is_file(), name


def test_ci_runs_what_can_be_run_anywhere() -> None:
    commands = [step["run"] for step in steps(parsed(ROOT / ".github" / "workflows" / "ci.yml")) if "run" in step]
    assert commands == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_ci_uses_pythons_that_the_package_claims() -> None:
    claimed = {line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if re.search(r":: 3\.\d+$", line)}
    for path in WORKFLOWS:
        for step in steps(parsed(path)):
            assert set(step.get("with", {}).get("python-version", "").split()) <= claimed


def test_only_the_job_that_publishes_may_ask_for_an_identity_and_it_has_no_password() -> None:
    jobs = parsed(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    assert {name for name, job in jobs.items() if "permissions" in job} == {"publish"}
    publish = jobs["publish"]
    assert publish["permissions"] == {"id-token": "write", "attestations": "write"}
    assert (publish["needs"], publish["environment"]) == ("build", "release")
    assert publish["steps"][-1]["with"] == {"attestations": True}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


@pytest.mark.parametrize("path", [form for form in FORMS if form.name != "config.yml"], ids=ids)
def test_a_form_asks_under_a_label(path: Path) -> None:
    form = parsed(path)
    assert {"name", "description", "labels", "body"} == set(form)
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    assert all(field["attributes"]["label"] for field in asked)
    assert len({field["id"] for field in asked}) == len(asked) >= 2


def test_the_template_of_pull_requests_links_to_what_is_there() -> None:
    page = ROOT / ".github" / "PULL_REQUEST_TEMPLATE.md"
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_hook_is_a_tool_of_the_development_environment() -> None:
    """A hook that is fetched from elsewhere would be of another version than CI's."""
    tools = {re.split(r"[\[>=<;]", line)[0] for line in PROJECT["dependency-groups"]["dev"] if isinstance(line, str)}
    repos = parsed(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    hooks = {hook["id"]: hook for hook in repos[0]["hooks"]}
    assert {"ruff", "ruff-format", "codespell", "validate-pyproject", "generated", "news"} == set(hooks)
    for hook in hooks.values():
        assert hook["language"] == "system"
        command, *arguments = hook["entry"].split()
        assert command in {*tools, "python"}
        for argument in arguments:
            assert not argument.endswith(".py") or (ROOT / argument).is_file(), argument


def test_pyproject_is_valid() -> None:
    api = pytest.importorskip("validate_pyproject.api", reason="validate-pyproject is of the group `dev`")
    validated = api.Validator()(PROJECT)
    assert validated["project"]["name"] == metadata.metadata("redsched")["Name"]


def build(checkout: Path, tag: str) -> str:
    done = subprocess.run(
        ["sh", checkout / ".ci" / "build.sh", tag], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    return done.stderr


def test_a_release_is_refused_whose_tag_version_and_changelog_differ(tmp_path: Path) -> None:
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / "redsched").mkdir()
    (tmp_path / "redsched" / "__init__.py").write_text('__version__ = "2.0.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("## [Unreleased]\n")
    assert "the tag must be v2.0.0" in build(tmp_path, "v1.9.0")
    assert "CHANGELOG.md has no section [2.0.0]" in build(tmp_path, "v2.0.0")
    assert "the tag must be v" + redsched.__version__ in build(ROOT, "v0.0.0")


HAND_FORMATTED = 96
"""Places in redsched/ that the formatter leaves alone (`# fmt: skip`). It may only shrink: a call that needs one often
wants fewer arguments, or an object for them."""


def test_the_places_that_are_formatted_by_hand_only_become_fewer() -> None:
    found = {str(path.relative_to(ROOT)): path.read_text().count("# fmt: skip") for path in PACKAGE.rglob("*.py")}
    assert sum(found.values()) <= HAND_FORMATTED, {name: number for name, number in found.items() if number}
