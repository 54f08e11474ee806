from __future__ import annotations

import configparser
import os
from pathlib import Path

import pytest

from tune_bn.errors import ServiceError
from tune_bn.service.secret_files import ensure_ray_token, read_or_make, write_mlflow_credentials, write_private


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_secret_is_made_once_and_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        first = read_or_make(tmp_path / "secret")
    finally:
        os.umask(before)
    assert len(first) >= 43
    assert read_or_make(tmp_path / "secret") == first
    assert mode(tmp_path / "secret") == 0o600
    assert read_or_make(tmp_path / "other") != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "secret"]


def test_no_moment_shows_a_secret_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode is there before the first byte."""
    modes = []
    real = os.fdopen

    def opened(descriptor: int, *rest: object, **options: object) -> object:
        modes.append(os.fstat(descriptor).st_mode & 0o777)
        return real(descriptor, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "fdopen", opened)
    before = os.umask(0)
    try:
        write_private(tmp_path / "secret", "text")
    finally:
        os.umask(before)
    assert modes == [0o600]


@pytest.mark.parametrize("loose", [0o640, 0o604, 0o620])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, loose: int) -> None:
    path = tmp_path / "secret"
    path.write_text("known to all")
    path.chmod(loose)
    with pytest.raises(ServiceError, match=f"secret: its mode is 0{loose:o}; accepted: 0600"):
        read_or_make(path)


def test_what_could_not_be_written_leaves_the_old_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    write_private(path, "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_private(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_mlflow_reads_the_credentials_that_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    from mlflow.utils.credentials import read_mlflow_creds

    for password in ("first", "50%-off"):
        assert write_mlflow_credentials(tmp_path, "admin", password)
        credentials = read_mlflow_creds()
        assert (credentials.username, credentials.password) == ("admin", password)
    assert mode(tmp_path / ".mlflow" / "credentials") == 0o600
    assert mode(tmp_path / ".mlflow") & 0o077 == 0


def test_credentials_of_the_user_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / ".mlflow" / "credentials"
    path.parent.mkdir()
    path.write_text("[mlflow]\nmlflow_tracking_username = me\n")
    assert not write_mlflow_credentials(tmp_path, "admin", "secret")
    parser = configparser.ConfigParser()
    parser.read(path)
    assert parser["mlflow"]["mlflow_tracking_username"] == "me"


@pytest.mark.long
def test_ray_makes_its_token_for_its_owner_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = ensure_ray_token(tmp_path)
    token = path.read_text()
    assert path == tmp_path / ".ray" / "auth_token"
    assert len(token) == 64
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert token not in "".join(capfd.readouterr())


def test_a_token_that_is_there_stays_and_loses_its_readers(tmp_path: Path) -> None:
    path = tmp_path / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("given")
    path.chmod(0o644)
    assert ensure_ray_token(tmp_path).read_text() == "given"
    assert mode(path) == 0o600
