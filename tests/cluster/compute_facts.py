"""What Google's Compute API says of the keys of an instance, as a table.

``compute_facts.tsv`` beside this file is made from the description that Google publishes of its API, a copy of which is
in the package `google-api-python-client`:

    pip install google-api-python-client
    python tests/cluster/compute_facts.py > tests/cluster/compute_facts.tsv

It keeps the keys of an instance, and of disks and scheduling all that is below them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from tests.cluster.schema_facts import HEADING, Fact

FOLLOWED = {"AttachedDisk", "AttachedDiskInitializeParams", "Scheduling"}


def facts(schemas: dict[str, Any], name: str, path: str) -> Iterator[tuple[str, Fact]]:
    """The keys below one object of the API."""
    for key, child in schemas[name].get("properties", {}).items():
        where = f"{path}.{key}" if path else key
        target = child.get("$ref") or child.get("items", {}).get("$ref")
        kind = "int64" if child.get("format") == "int64" else child.get("type", "object")
        if "additionalProperties" in child:
            kind = "map"
        elif target is not None and target not in FOLLOWED:
            kind = f"other:{target}"
        yield where, Fact(kind, tuple(child.get("enum", ())))
        if target in FOLLOWED:
            yield from facts(schemas, target, where if "$ref" in child else f"{where}[]")


def make() -> Iterator[str]:
    """The table's lines."""
    text = (files("googleapiclient.discovery_cache.documents") / "compute.v1.json").read_text(encoding="utf-8")
    document = json.loads(text)
    yield f"# Source: Google's discovery document {document['id']}, revision {document['revision']}"
    yield "# Licence of the source: Apache License 2.0. Made by compute_facts.py; nothing but the facts is copied."
    yield HEADING
    yield from (fact.line("Instance", path) for path, fact in facts(document["schemas"], "Instance", ""))


if __name__ == "__main__":
    print(*make(), sep="\n")
