"""Messages on a run socket. Shared by the worker and the fork server, so standard library only."""

from __future__ import annotations

import struct

CONFINED = b"C"
"""From the child: every right is gone, the submission starts now."""

FAILED = b"F"
"""From the child or the server, followed by text: the run could not be started or confined."""

ENDED = struct.Struct("<cid")
"""From the server: `EXITED`, the wait status, CPU seconds used."""

EXITED = b"X"
"""First field of `ENDED`."""

JOB_TAIL = "<Q"
"""Last field of a job: length of the request before it, which follows the standard input."""
