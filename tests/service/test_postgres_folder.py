from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tune_bn.errors import ServiceError
from tune_bn.service import postgres
from tune_bn.service.postgres import Postgres, check_socket, find_programs, run_as


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Debian's folder with three versions, of which one has clients alone; nothing in PATH."""
    debian = tmp_path / "debian"
    for version, programs in {"9": ["initdb", "postgres"], "15": ["initdb", "postgres"], "17": ["psql"]}.items():
        folder = debian / version / "bin"
        folder.mkdir(parents=True)
        for program in programs:
            (folder / program).write_text(
                f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}.3 (Debian {version}.3-1)'\n"
            )
            (folder / program).chmod(0o755)
    monkeypatch.setattr(postgres, "DEBIAN", debian)
    monkeypatch.setenv("PATH", str(tmp_path))
    return debian


def test_the_newest_server_is_taken_for_new_data(installed: Path, tmp_path: Path) -> None:
    assert find_programs(tmp_path / "data") == installed / "15" / "bin"


def test_data_is_opened_by_the_version_that_wrote_it(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("9\n")
    assert find_programs(tmp_path) == installed / "9" / "bin"


def test_data_of_a_version_that_is_gone_is_an_error_that_names_the_package(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("14\n")
    with pytest.raises(
        ServiceError, match="PostgreSQL 14, which is not installed; accepted: the package postgresql-14"
    ):
        find_programs(tmp_path)


def test_without_postgresql_the_package_and_the_way_around_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path / "none")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match=r"not installed .* accepted: Debian's package postgresql, or --store"):
        find_programs(tmp_path / "data")


def test_root_needs_the_user_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "SYSTEM_USER", "no-such-user")
    with pytest.raises(ServiceError, match="no user no-such-user"):
        run_as()
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 1000)
    assert run_as() is None


@pytest.mark.parametrize(("length", "fits"), [(107, True), (108, False)])
def test_a_socket_has_a_longest_path(length: int, fits: bool) -> None:
    path = Path("/" + "γ" * 20 + "x" * (length - 41))
    if fits:
        check_socket(path)
    else:
        with pytest.raises(ServiceError, match=r"--state: the socket .* of 108 bytes; accepted: .* within 107"):
            check_socket(path)


def test_the_uri_holds_any_folder_and_no_password() -> None:
    parts = urlsplit(Postgres(Path("/d"), Path("/a b/%&?")).uri())
    assert parse_qs(parts.query)["host"] == ["/a b/%&?"]
    assert (parts.username, parts.password, parts.path) == ("mlflow", None, "/mlflow")
