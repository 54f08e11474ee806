"""``seal.tsr`` beside a plan: a time stamp of RFC 3161 that shows since when the plan has existed.

Nothing is sent anywhere. A request for a time stamp holds the SHA-256 of ``plan.json`` and nothing else of the study.
Whoever runs the study sends it to an authority of their choice and gives the reply back; ``openssl ts`` checks the
authority's signature.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tune_bn.errors import StudyError
from tune_bn.records.files import read_bytes, writing

REQUEST, REPLY = "seal.tsq", "seal.tsr"
_SHA256 = bytes.fromhex("300d06096086480165030402010500")
"""AlgorithmIdentifier of SHA-256 in DER."""
MOST_REPLY_BYTES = 2**20


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x81, size])
    return bytes([tag]) + length + content


def request_of(plan: bytes) -> bytes:
    """The time-stamp request (TimeStampReq of RFC 3161, version 1, certificates asked for) for these bytes."""
    imprint = _der(0x30, _SHA256 + _der(0x04, hashlib.sha256(plan).digest()))
    return _der(0x30, b"\x02\x01\x01" + imprint + b"\x01\x01\xff")


def take_reply(study: Path, plan: Path, reply: Path, authority: Path) -> datetime:
    """Check a reply against the plan by ``openssl ts`` and keep it beside the plan; the time that it states.

    Args:
        study: where it is kept.
        plan: the plan.
        reply: what the authority answered (TimeStampResp in DER).
        authority: the certificates to trust, as PEM.

    Raises:
        StudyError: ``openssl`` is missing, or the reply is not the authority's for this plan.
    """
    program = shutil.which("openssl")
    if program is None:
        raise StudyError("openssl: missing; accepted: a machine that has it, to check the authority's signature")
    command = [program, "ts", "-verify", "-data", str(plan), "-in", str(reply), "-CAfile", str(authority)]
    made = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if made.returncode != 0:
        said = [line for line in (made.stderr + made.stdout).splitlines() if line.strip()]
        why = next((line for line in said if "error" in line.lower()), said[0] if said else "no reason given")
        raise StudyError(f"{reply}: openssl does not accept it ({why.strip()[:200]}); accepted: a reply for {plan}")
    data = read_bytes(reply, MOST_REPLY_BYTES)
    stated = stamped(data, plan.read_bytes())
    if stated is None:
        raise StudyError(f"{reply}: holds no time for {plan}; accepted: the authority's reply to {REQUEST}")
    with writing(study / REPLY):
        (study / REPLY).write_bytes(data)
    return stated


def stamped(reply: bytes, plan: bytes) -> datetime | None:
    """The time that a reply states for a plan; None where it is for something else. No signature is checked.

    In TSTInfo the imprint of what was stamped is followed by a serial number and the time.
    """
    imprint = _der(0x30, _SHA256 + _der(0x04, hashlib.sha256(plan).digest()))
    place = reply.find(imprint)
    if place < 0:
        return None
    after = reply[place + len(imprint) : place + len(imprint) + 80]
    found = re.search(rb"\x18.(\d{14})(?:\.\d+)?Z", after, re.DOTALL)
    if found is None:
        return None
    try:
        return datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def seal_words(study: Path, plan: Path) -> str | None:
    """What a seal beside a plan proves, in a sentence; None where there is none."""
    try:
        reply, content = read_bytes(study / REPLY, MOST_REPLY_BYTES), read_bytes(plan)
    except OSError:
        return None
    when = stamped(reply, content)
    if when is None:
        return f"{REPLY} is no time stamp of this plan, and proves nothing"
    return (
        f"a time stamp states that this plan existed at {when:%Y-%m-%d %H:%M:%S} UTC; it shows neither that no other "
        f"plan did, nor, before `openssl ts -verify -data plan.json -in {REPLY} -CAfile CA.pem` is run, who signed it"
    )
