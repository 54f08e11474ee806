"""Moto as Amazon's EC2, and what lies between that API and machines: an instance that runs is a host, and it is told.

    amazon.py serve           the API and the metadata service; says ``up NAME ADDRESS`` and ``down NAME`` of hosts
    amazon.py take NAME       takes a spot instance, as Amazon does: at once, and whatever it runs

AWS_ENDPOINT_URL is where the API is. The name of a host is the end of its instance's. In /run/amazon are

    instances         a line of JSON for each instance that ever was
    ADDRESS.notice    made by the test: the notice that the instance of this address will be taken
    no-spot           made by the test: there is none to be had
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

METADATA = ("169.254.169.254", 80)
STATE = Path("/run/amazon")
AUTHORIZED_KEYS = Path("/run/ssh/user_key.pub")
ROLE = "ray-autoscaler-v1"


def name_of(instance: dict[str, Any]) -> str:
    return str(instance["InstanceId"])[-8:]


def instances() -> list[dict[str, Any]]:
    pages = boto3.client("ec2").get_paginator("describe_instances").paginate()
    return [instance for page in pages for group in page["Reservations"] for instance in group["Instances"]]


class Metadata(BaseHTTPRequestHandler):
    """The metadata service of whichever host asks: a session's token first, then the role's credentials and notices."""

    def do_PUT(self) -> None:
        self._answer("a-session" if self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        if self.headers.get("X-aws-ec2-metadata-token") != "a-session":
            return self._answer("", 401)
        credentials = {
            "Code": "Success",
            "AccessKeyId": "an-instance",
            "SecretAccessKey": "a-secret",
            "Token": "a-token",
            "Expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 21600)),
        }
        notice = STATE / f"{self.client_address[0]}.notice"
        return self._answer(
            {
                "/latest/meta-data/iam/security-credentials/": ROLE,
                f"/latest/meta-data/iam/security-credentials/{ROLE}": json.dumps(credentials),
                "/latest/meta-data/spot/instance-action": notice.read_text() if notice.exists() else None,
            }.get(self.path)
        )

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, text: str | None, status: int = 200) -> None:
        body = (text or "").encode()
        self.send_response(404 if text is None else status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve() -> None:
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.models.instances import Instance, InstanceBackend
    from moto.server import ThreadedMotoServer

    # Amazon's instances have it, Moto's do not; by it Ray knows those that can be terminated alone.
    Instance.spot_instance_request_id = property(
        lambda self: f"sir-{self.id[-8:]}" if self.lifecycle == "spot" else None
    )
    launched = InstanceBackend.run_instances

    def launch(*given: Any, **options: Any) -> Any:
        if options.get("instance_market_options") and (STATE / "no-spot").exists():
            raise EC2ClientError("InsufficientInstanceCapacity", "There is no Spot capacity available.")
        return launched(*given, **options)

    InstanceBackend.run_instances = launch
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    endpoint = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    ThreadedMotoServer(str(endpoint.hostname), endpoint.port, verbose=False).start()
    threading.Thread(target=ThreadingHTTPServer(METADATA, Metadata).serve_forever, daemon=True).start()
    STATE.mkdir()
    # As in an account that Ray has used before: after making them, Ray would wait half a minute for them to spread.
    iam = boto3.client("iam")
    iam.create_instance_profile(InstanceProfileName=ROLE)
    iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument="{}")
    iam.add_role_to_instance_profile(InstanceProfileName=ROLE, RoleName=ROLE)

    running: set[str] = set()
    while True:
        seen = instances()
        (STATE / "instances.new").write_text("".join(f"{json.dumps(row(instance))}\n" for instance in seen))
        (STATE / "instances.new").replace(STATE / "instances")
        for instance in seen:
            name, runs = name_of(instance), instance["State"]["Name"] == "running"
            if runs and name not in running:
                authorize(instance["KeyName"])
                running.add(name)
                print("up", name, instance["PrivateIpAddress"], flush=True)
            elif not runs and name in running:
                running.remove(name)
                print("down", name, flush=True)
        time.sleep(0.3)


def authorize(key_name: str) -> None:
    """What cloud-init does on an instance's first start."""
    (pair,) = boto3.client("ec2").describe_key_pairs(KeyNames=[key_name], IncludePublicKey=True)["KeyPairs"]
    known = AUTHORIZED_KEYS.read_text()
    if pair["PublicKey"].strip() not in known:
        AUTHORIZED_KEYS.write_text(known + pair["PublicKey"].strip() + "\n")


def row(instance: dict[str, Any]) -> dict[str, Any]:
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    return {
        "name": name_of(instance),
        "address": instance["PrivateIpAddress"],
        "type": tags["ray-user-node-type"],
        "lifecycle": instance.get("InstanceLifecycle", "on-demand"),
        "state": instance["State"]["Name"],
        "tokens": instance.get("MetadataOptions", {}).get("HttpTokens"),
        "groups": [group["GroupName"] for group in instance["SecurityGroups"]],
    }


def main() -> None:
    if sys.argv[1] == "serve":
        serve()
    else:
        (instance,) = [instance for instance in instances() if name_of(instance) == sys.argv[2]]
        boto3.client("ec2").terminate_instances(InstanceIds=[instance["InstanceId"]])


if __name__ == "__main__":
    main()
