"""What deploy/ offers is what its own tools accept: Docker, compose, Kubernetes, SAM, systemd."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkout import ROOT
from tests.programs import need

DEPLOY = ROOT / "deploy"
TOOLS = Path(sys.executable).parent
UNITS = sorted((DEPLOY / "systemd").iterdir())
COMPOSE = sorted((DEPLOY / "docker").glob("*.yml"))
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def run(*argv: str | Path) -> str:
    """What a checker says of something that it accepts."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_dockerfile_passes_hadolint() -> None:
    run(TOOLS / "hadolint", DEPLOY / "docker" / "Dockerfile")


def test_the_image_gets_every_part_of_the_program() -> None:
    copied = set(re.findall(r"^COPY (?!--)(\S+)", (DEPLOY / "docker" / "Dockerfile").read_text(), re.M))
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests"}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == packages | {"zfs_sync.py", "deploy/docker/requirements.hashes.txt"} == kept


def test_the_image_and_the_function_get_the_extras_that_are_tested() -> None:
    tested = (ROOT / "tests" / "requirements.txt").read_text().splitlines()
    image = (DEPLOY / "docker" / "requirements.hashes.txt").read_text()
    function = (DEPLOY / "function" / "requirements.txt").read_text().splitlines()
    assert [line for line in function if not line.startswith("#")] == [line for line in tested if line in function]
    for extra in ("psycopg", "apprise"):
        (pin,) = (line for line in tested if line.startswith(extra))
        assert pin in image


@pytest.mark.parametrize("file", [DEPLOY / "requirements.hashes.txt", DEPLOY / "docker" / "requirements.hashes.txt"])
def test_packages_with_hashes_are_those_that_are_tested(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    wanted = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "win32" not in line]
    pinned = [line.removesuffix(" \\") for line in lines if not line.startswith(" ")]
    assert set(wanted) <= set(pinned)
    assert all(re.fullmatch(r"[a-z0-9-]+(\[[a-z,]+\])?==\S+", pin) for pin in pinned)
    hashes = [line for line in lines if line.startswith(" ")]
    assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)
    assert len(hashes) >= len(pinned)


def test_no_package_has_a_known_vulnerability() -> None:
    """What the image gets is all that anything gets. Whoever answers as PyPI is asked; the test needs nobody to."""
    options = ("--require-hashes", "--disable-pip", "--progress-spinner=off", "--timeout=5", "--format=json")
    argv = [TOOLS / "pip-audit", *options, "-r", DEPLOY / "docker" / "requirements.hashes.txt"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
        found = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError):
        pytest.skip("no package index is reachable from here")
    assert {each["name"]: each["vulns"] for each in found if each.get("vulns")} == {}
    unknown = sorted(each["name"] for each in found if "skip_reason" in each)
    if unknown:
        pytest.skip(f"the package index that is reachable from here knows nothing of {len(unknown)} packages")
    assert len(found) > 10


@pytest.mark.parametrize("file", COMPOSE, ids=lambda path: path.name)
def test_compose_files_fit_the_compose_specification(file: Path) -> None:
    run(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)


@pytest.mark.parametrize("file", COMPOSE, ids=lambda path: path.name)
def test_containers_can_change_nothing_but_their_volumes(file: Path) -> None:
    witness = yaml.safe_load(file.read_text())["services"]["witness"]
    assert witness["read_only"] is True
    assert witness["cap_drop"] == ["ALL"]
    assert witness["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda path: path.name)
def test_manifests_fit_the_schemas_of_kubernetes(file: Path) -> None:
    import kubernetes_validate

    documents = list(yaml.safe_load_all(file.read_text()))
    assert documents
    for document in documents:
        kubernetes_validate.validate(document, "1.31", strict=True)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda path: path.name)
def test_pods_run_without_privileges_and_are_probed(file: Path) -> None:
    pods = [
        document["spec"]["template"]["spec"]
        for document in yaml.safe_load_all(file.read_text())
        if document["kind"] in ("Deployment", "StatefulSet")
    ]
    assert pods
    for pod in pods:
        assert pod["securityContext"]["runAsUser"] == 1000
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
            assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
            mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert {"/config", "/data", "/tmp"} <= mounted


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda path: path.name)
def test_what_selects_pods_selects_those_of_the_same_file(file: Path) -> None:
    documents = list(yaml.safe_load_all(file.read_text()))
    (labels,) = (d["spec"]["template"]["metadata"]["labels"] for d in documents if "template" in d.get("spec", {}))
    selectors = [selector for document in documents if (selector := selector_of(document)) is not None]
    assert len(selectors) >= 3
    assert all(selector == labels for selector in selectors)


def selector_of(document: dict[str, Any]) -> dict[str, str] | None:
    """The labels that a manifest looks for, if it looks for any."""
    spec = document.get("spec", {})
    found = spec.get("podSelector", spec.get("selector"))
    return found.get("matchLabels", found) if found else None


def test_the_sam_template_passes_cfn_lint() -> None:
    run(TOOLS / "cfn-lint", DEPLOY / "function" / "template.yaml")


def test_units_pass_systemd_analyze(tmp_path: Path) -> None:
    """With /bin/true in place of our programs, which need not be installed here."""
    for unit in UNITS:
        text = re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", unit.read_text(), flags=re.M)
        (tmp_path / unit.name).write_text(text.replace("/opt/zfs-sync", "/"))
    said = run(need("systemd-analyze"), "verify", "--man=no", *(tmp_path / unit.name for unit in UNITS))
    assert not re.search(r"zfs-sync-\w+\.\w+", said), said


@pytest.mark.parametrize(("unit", "at_most"), [("zfs-sync-witness", 1.5), ("zfs-sync-agent", 8.0)])
def test_units_are_hardened(unit: str, at_most: float) -> None:
    """systemd's own measure, from 0 (safe) to 10. The agent has to mount datasets for all to see, so it has less."""
    said = run(
        need("systemd-analyze"), "security", "--offline=yes", "--no-pager", DEPLOY / "systemd" / f"{unit}.service"
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    assert float(found[1]) <= at_most


def test_the_units_start_what_the_installers_install() -> None:
    witness = (DEPLOY / "systemd" / "zfs-sync-witness.service").read_text()
    installer = (DEPLOY / "install-witness.sh").read_text()
    for name in ("program", "settings", "account"):
        found = re.search(rf"^{name}=(\S+)", installer, re.M)
        assert found
        assert found[1] in witness
    agent = re.search(r"^program=(\S+)", (DEPLOY / "install-agent.sh").read_text(), re.M)
    assert agent
    assert f"ExecStart={agent[1]} run" in (DEPLOY / "systemd" / "zfs-sync-agent.service").read_text()
