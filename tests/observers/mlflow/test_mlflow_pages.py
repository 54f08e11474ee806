"""What MLflow's own pages show first: a study's verdict in words, and the pages for training."""

from __future__ import annotations

from tests.observers.mlflow.followed_studies import Study
from tune_bn.observers.mlflow.compat import TRAINING_EXPERIMENT

NOTE = "mlflow.note.content"


def words_of(study: Study) -> str:
    return study.runs()[0].data.tags.get(NOTE, "")


def test_the_page_of_a_study_says_its_verdict_until_somebody_writes_there(study: Study) -> None:
    study.observer().study_finished("FINISHED", {"headline": "supported", "reason": "γ = 0.1 raises it."})
    assert words_of(study) == "**Supported**\n\nγ = 0.1 raises it."
    study.observer().study_finished("FINISHED", {"headline": "not_supported", "reason": "It does not."})
    assert words_of(study) == "**Not supported**\n\nIt does not."
    study.client.set_tag(study.runs()[0].info.run_id, NOTE, "Words of mine.")
    study.observer().study_finished("FINISHED", {"headline": "supported", "reason": "γ = 0.1 raises it."})
    assert (words_of(study), study.runs()[0].data.tags["headline"]) == ("Words of mine.", "supported")


def test_a_study_without_a_verdict_says_nothing(study: Study) -> None:
    study.observer().study_finished("KILLED", {})
    assert words_of(study) == ""


def test_the_list_of_experiments_opens_on_the_pages_for_training(study: Study) -> None:
    study.observer().study_finished("FINISHED", {})
    experiment = study.client.get_experiment_by_name("digits")
    assert experiment is not None
    name, kind = TRAINING_EXPERIMENT
    assert experiment.tags[name] == kind
