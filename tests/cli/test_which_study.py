"""Which study a verb is asked about: a name, a folder here by its bare name, or a bundle by mistake."""

from __future__ import annotations

import shutil

import pytest

from tune_bn.errors import StudyError
from tune_bn.front.which_study import existing_study

ASKED = {
    "verify": ["verify", "{study}", "--json"],
    "gate": ["gate", "{study}"],
    "status": ["status", "{study}"],
    "export": ["export", "{study}", "out.csv"],
    "seal": ["seal", "{study}"],
    "paperkit": ["paperkit", "{study}", "kit"],
    "report": ["report", "{study}"],
    "logs": ["logs", "{study}"],
    "inspect": ["inspect", "{study}"],
    "stop": ["stop", "{study}"],
    "bundle": ["bundle", "{study}", "out.zip"],
    "confirm": ["confirm", "{study}"],
    "ask": ["ask", "{study}"],
    "tell": ["tell", "{study}", "run", "--failed", "why"],
    "watch": ["watch", "{study}"],
}
READS_BUNDLES = ("verify", "gate")


def words_for(verb, study):
    return [word.format(study=study) for word in ASKED[verb]]


@pytest.fixture
def here(synthetic_study, tmp_path, monkeypatch):
    """A study in the current folder, and none in studies/."""
    monkeypatch.chdir(tmp_path)
    return synthetic_study(effect=1.5).write(tmp_path / "f")


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    return "f.zip"


def test_a_folder_here_that_is_a_study_is_one_by_its_bare_name(here, tmp_path):
    for name in ("f", "./f", str(here)):
        assert existing_study(name, tmp_path / "studies").path == here


def test_a_name_that_no_study_could_have_is_a_folder_here_all_the_same(here, tmp_path):
    here.rename(tmp_path / "my study")
    assert existing_study("my study", tmp_path / "studies").path == tmp_path / "my study"


def test_a_study_in_the_output_comes_before_a_folder_here(here, tmp_path):
    inside = shutil.copytree(here, tmp_path / "studies" / "f")
    assert existing_study("f", tmp_path / "studies").path == inside
    assert existing_study("./f", tmp_path / "studies").path == here


@pytest.mark.parametrize("name", ["", "g", "f/g", "x" * 3000, "f\0"])
def test_what_is_no_study_is_refused_in_one_line(here, tmp_path, name, monkeypatch):
    # An empty name is not the current folder, though that is a study.
    monkeypatch.chdir(here)
    with pytest.raises(StudyError, match=r"got .*accepted: "):
        existing_study(name, tmp_path / "studies")


@pytest.mark.long
@pytest.mark.parametrize("verb", ["verify", "gate", "status", "export", "seal", "paperkit"])
def test_verbs_take_the_bare_name_of_a_folder_here(here, typed, verb):
    _, out, err = typed(*words_for(verb, "f"))
    assert "none yet" not in err
    assert out


@pytest.mark.long
@pytest.mark.parametrize("verb", [verb for verb in ASKED if verb not in READS_BUNDLES])
def test_verbs_that_want_a_folder_say_what_a_bundle_is_for(bundle, typed, verb):
    code, _, err = typed(*words_for(verb, bundle))
    assert code == 2
    assert "STUDY: got f.zip, a bundle; accepted: a study or its folder." in err
    assert "`tune_bn verify`" in err
    assert "`unzip f.zip -d f`" in err
    assert "none yet" not in err


def test_a_study_whose_name_ends_like_a_bundles_is_a_study(here, bundle, tmp_path):
    inside = shutil.copytree(here, tmp_path / "studies" / "f.zip")
    assert existing_study("f.zip", tmp_path / "studies").path == inside
