"""Power fencing on the lab's host: a process beside the lab that powers silent machines off when controllers ask.

`agent` is the process, `backends` how it powers off, `service` how `labctl up` starts it; `halt` and `destroy` end it.
"""

PORT = 7455  # on the host's address in the lab's network
READY = b"ready\n"  # what the process says once it serves
CLIENT = "labctl:fence-client"  # whom the agent obeys: only controllers have this certificate
