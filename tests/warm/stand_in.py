"""Started by tests, or by Ray, in the place of Python: it has the warm server fork the process, and stands for it.

It lies beside the server's socket, and loads nothing: it passes on its arguments, folder, variables and streams,
waits, and ends as the process ends. Where it is killed, so is the process, and where whoever started it has died, as
Ray's workers and agents end with their raylet.
"""

import json
import os
import signal
import socket
import sys

SOCKET = os.path.join(os.path.dirname(os.path.abspath(__file__)), "socket")
CONTEXT = "--serialized-runtime-env-context="


def cold() -> bool:
    """Whether it cannot be forked: a worker of Ray that has another Python or a container, or no script."""
    if not sys.argv[1:] or (sys.argv[1].startswith("-") and sys.argv[1] != "-m"):
        return True
    contexts = [json.loads(one.removeprefix(CONTEXT) or "{}") for one in sys.argv if one.startswith(CONTEXT)]
    own = all(one.get("py_executable", sys.executable) == sys.executable for one in contexts)
    plain = not any(one.get("command_prefix") or one.get("override_worker_entrypoint") for one in contexts)
    return sys.argv[1].endswith("default_worker.py") and not (own and plain)


def main() -> None:
    """Ask, wait and end."""
    if cold():
        rest = sys.argv[1:]
        if rest and rest[0].endswith("default_worker.py"):
            rest.insert(0, os.path.join(os.path.dirname(rest[0]), "setup_worker.py"))
        os.execv(sys.executable, [sys.executable, *rest])
    parent = os.getppid()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.connect(SOCKET)
    request = {
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "group": os.getpgid(0),
    }
    socket.send_fds(server, [json.dumps(request).encode()], [0, 1, 2])
    # What else holds the streams of a process that is gone keeps those from ending who read them.
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    pid = int(server.recv(64) or 0)
    # Ctrl-C and the like come to the whole group, and the process is in it: what it makes of them is its own matter.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Whoever asks this one to end means the process.
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(pid, number))
    server.settimeout(1.0)
    while True:
        try:
            status = int(server.recv(64) or -signal.SIGKILL)
            break
        except TimeoutError:
            if os.getppid() != parent:
                os._exit(1)
    # One that a signal ended has no status of its own: that is said as a shell says it.
    os._exit(status if status >= 0 else 128 - status)


main()
