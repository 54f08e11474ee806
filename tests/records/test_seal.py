"""Seals: requests and replies as OpenSSL's own time-stamp authority makes and reads them."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from tune_bn.analysis.verdict import verify_study
from tune_bn.errors import StudyError
from tune_bn.records.seal import REPLY, request_of, seal_words, stamped, take_reply

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

SUBJECT = ("-subj", "/CN=other")
CONFIG = """
[tsa]
default_tsa = own
[own]
serial = serial
crypto_device = builtin
signer_cert = tsa.pem
signer_key = tsa.key
default_policy = 1.2.3.4.1
digests = sha256
signer_digest = sha256
[ext]
extendedKeyUsage = critical,timeStamping
[req]
distinguished_name = name
[name]
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Answers a request as an authority of its own; the folder has ``tsa.pem`` to trust."""
    folder = tmp_path_factory.mktemp("tsa")
    (folder / "tsa.cnf").write_text(CONFIG)
    (folder / "serial").write_text("01\n")
    openssl(
        folder,
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.pem", "-days", "2"),
        *("-subj", "/CN=authority", "-config", "tsa.cnf", "-extensions", "ext"),
    )

    def answer(request):
        (folder / "q.tsq").write_bytes(request)
        openssl(folder, "ts", "-reply", "-queryfile", "q.tsq", "-out", "r.tsr", "-config", "tsa.cnf", "-section", "own")
        return folder / "r.tsr"

    return folder, answer


def openssl(folder, *arguments):
    made = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return made.stdout


def test_openssl_reads_the_request(tmp_path):
    (tmp_path / "q.tsq").write_bytes(request_of(b"plan"))
    text = openssl(tmp_path, "ts", "-query", "-in", "q.tsq", "-text")
    assert "Hash Algorithm: sha256" in text
    assert "Certificate required: yes" in text


@pytest.mark.long
def test_a_reply_is_checked_kept_and_shown(authority, synthetic_study, tmp_path):
    ca, answer = authority
    folder = synthetic_study().write(tmp_path / "study")
    plan = folder / "plan.json"
    assert verify_study(folder)["seal"] is None
    reply = answer(request_of(plan.read_bytes()))
    when = take_reply(folder, plan, reply, ca / "tsa.pem")
    assert abs(when - datetime.now(UTC)) < timedelta(minutes=10)
    assert (folder / REPLY).read_bytes() == reply.read_bytes()
    said = verify_study(folder)["seal"]
    assert f"existed at {when:%Y-%m-%d %H:%M:%S} UTC" in said
    assert "neither that no other plan did" in said


def test_a_reply_for_another_plan_or_by_another_authority_is_refused(authority, tmp_path):
    ca, answer = authority
    plan = tmp_path / "plan.json"
    plan.write_bytes(b"this plan")
    reply = answer(request_of(b"another plan"))
    with pytest.raises(StudyError, match="openssl does not accept it"):
        take_reply(tmp_path, plan, reply, ca / "tsa.pem")
    openssl(
        tmp_path, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "k", "-out", "o.pem", "-subj", "/CN=o"
    )
    reply = answer(request_of(b"this plan"))
    with pytest.raises(StudyError, match="openssl does not accept it"):
        take_reply(tmp_path, plan, reply, tmp_path / "o.pem")
    assert not (tmp_path / REPLY).exists()


def test_a_plan_that_was_changed_has_no_seal(authority, tmp_path):
    _, answer = authority
    plan = tmp_path / "plan.json"
    plan.write_bytes(b"before")
    (tmp_path / REPLY).write_bytes(answer(request_of(b"before")).read_bytes())
    assert "existed at" in seal_words(tmp_path, plan)
    plan.write_bytes(b"after")
    assert seal_words(tmp_path, plan) == f"{REPLY} is no time stamp of this plan, and proves nothing"


@pytest.mark.parametrize("reply", [b"", b"\x00" * 1000, b"text"])
def test_what_is_no_reply_states_nothing(reply):
    assert stamped(reply, b"plan") is None
