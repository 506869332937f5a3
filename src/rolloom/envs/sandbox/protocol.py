"""Messages between a worker, its fork server and a run. Standard library only."""

from __future__ import annotations

import struct

CONFINED = b"C"
"""First on the result pipe: every right is gone, the submission starts now."""

FAILED = b"F"
"""First on the result pipe, followed by text: the run could not be started or confined."""

ENDED = struct.Struct("<cid")
"""On the run socket, from the server: `EXITED`, the wait status, CPU seconds used."""

EXITED = b"X"
"""First field of `ENDED`."""

LENGTHS = struct.Struct("<QQ")
"""A request to the fork server: bytes of standard input at the job's start, bytes of the request after it."""
