"""Are the images and the compose file pinned, without root, and without a secret in them?"""

import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"bucket", "permissions"}
IMAGES = sorted(DOCKER.glob("*.Dockerfile"))


def instructions(file: Path) -> list[tuple[str, str]]:
    text = file.read_text().replace("\\\n", " ")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [(word.upper(), rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_versions_are_pinned() -> None:
    images = [each["image"] for each in SERVICES.values()]
    bases = [
        rest.split()[0] for file in IMAGES for word, rest in instructions(file) if word == "FROM"
    ]
    for image in (*images, *bases):
        _, _, tag = image.rpartition(":")
        assert re.search(r"\d+\.\d+|RELEASE\.\d{4}", tag), image


@pytest.mark.parametrize("file", IMAGES, ids=lambda file: file.name)
def test_an_image_ends_with_a_user_and_copies_what_is_there(file: Path) -> None:
    found = instructions(file)
    last_stage = found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]
    assert ("USER", "etnas") in last_stage
    allowed = (file.parent / f"{file.name}.dockerignore").read_text().splitlines()
    for word, rest in found:
        if word == "COPY" and "--from" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source.removeprefix("./")).exists(), source
                assert f"!{source.removeprefix('./')}" in allowed


def test_extras_of_the_images_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for file in IMAGES:
        wanted = re.findall(r"'\.\[([a-z,]+)\]'", file.read_text())
        assert wanted
        assert {each for found in wanted for each in found.split(",")} <= set(extras)
    assert "engine" not in (DOCKER / "api.Dockerfile").read_text()


def test_every_service_that_stays_says_whether_it_is_well() -> None:
    api = dict(instructions(DOCKER / "api.Dockerfile"))
    for name, service in SERVICES.items():
        assert (
            name in ONE_SHOT or "healthcheck" in service or (name == "api" and "HEALTHCHECK" in api)
        )
        for other, when in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert when == {"condition": expected}, f"{name} waits for {other}"


def test_secrets_come_by_file_and_nothing_but_the_api_is_published() -> None:
    for name, service in SERVICES.items():
        environment = service.get("environment", {})
        for key, value in environment.items():
            if re.search(r"PASSWORD|SECRET|TOKEN_FILE|ACCESS_KEY|DATABASE_URL|STORE_URI", key):
                assert key.endswith("_FILE"), f"{name}.{key}"
                assert value.removeprefix("/run/secrets/") in service["secrets"]
        published = service.get("ports", [])
        assert all(port.startswith("127.0.0.1:") for port in published)
        assert bool(published) == (name == "api")
    assert {each for service in SERVICES.values() for each in service.get("secrets", ())} == set(
        COMPOSE["secrets"]
    )


def copied(folder: Path) -> Path:
    script = folder / "make-secrets.sh"
    script.write_text((DOCKER / "make-secrets.sh").read_text())
    return script


def test_secrets_are_made_once_and_are_others_each_time(tmp_path: Path) -> None:
    kept = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        script = copied(folder)
        for _ in range(2):
            subprocess.run(["sh", str(script)], check=True, capture_output=True)
            made = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
            kept.append(made)
        assert stat.S_IMODE((folder / "secrets").stat().st_mode) == 0o700
    first, again, other, _ = kept
    assert first == again
    assert set(first) == set(COMPOSE["secrets"])
    assert all(first[name] != other[name] for name in first)
    assert all(
        first["postgres_password"] in first[f"{each}database_url"] for each in ("", "mlflow_")
    )


def test_the_entrypoint_hands_a_file_s_content_to_its_own_process(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://a:p$b'c@d/e")
    run = [str(DOCKER / "entrypoint.sh"), "sh", "-c", 'printf %s "$NAS_DATABASE_URL"']
    environment = {**os.environ, "NAS_DATABASE_URL_FILE": str(secret)}
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == secret.read_text()
    environment["NAS_DATABASE_URL_FILE"] = str(tmp_path / "none")
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "NAS_DATABASE_URL_FILE" in done.stderr
    assert not done.stdout
