"""How bytes travel: HTTP/2, HBONE, identity, discovery, configuration; and the ztunnel.

gRPC reads its settings from the environment when it is imported. This package sets them before any module imports gRPC.
"""

import os

# uvloop starts programs by fork. gRPC's handlers crash one child in twelve if a call is under way at that moment.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# gRPC would write to standard error, which may block.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
