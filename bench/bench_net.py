# SPDX-License-Identifier: MIT
"""The loopback that is measured on.

What TCP does is most of what a request costs, and how it does it is the system's choice: BBR, where that is the default,
paces what it sends with a timer, on a loopback too, and large frames then cost what the timer costs. So where it may, the
bench has a network namespace of its own, in which TCP is under CUBIC, which sends what there is. Nothing else is on that
loopback either: no firewall, and no connections of others.
"""
import ctypes
import os
import shutil
import socket
import subprocess

CONGESTION = "cubic"
CLONE_NEWNET = 0x40000000
ROUTES = ("127.0.0.0/8", "127.0.0.1")


def congestion():
    """What a connection on the loopback is under, by its name."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        name = peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return name.rstrip(b"\0").decode()


def leave():
    """Into a new namespace, whose loopback works; or not at all."""
    libc = ctypes.CDLL(None)
    old = os.open("/proc/self/ns/net", os.O_RDONLY)
    left = libc.unshare(CLONE_NEWNET) == 0
    if left and subprocess.run(["ip", "link", "set", "lo", "up"], check=False).returncode != 0:
        libc.setns(old, CLONE_NEWNET)
        left = False
    os.close(old)
    return left


def separate():
    """Gives this process, and all that it will start, a loopback of their own, if it may; that takes root and `ip`.
    Returns what it is measured on, in words."""
    own = shutil.which("ip") is not None and leave()
    for route in ROUTES if own else ():
        subprocess.run(["ip", "route", "change", "local", route, "dev", "lo", "proto", "kernel", "scope", "host",
                        "src", "127.0.0.1", "table", "local", "congctl", CONGESTION], check=False)
    return "%s loopback, TCP under %s" % ("a separate" if own else "the system's", congestion())
