"""Errors of tunnels. Unless `is_undelivered` is False, no byte of the application was delivered."""


class TunnelError(Exception):
    """A tunnel failed. `sentence` explains it to an operator."""

    is_undelivered = True
    """True if the far side provably received no byte through this tunnel, so a retry is safe."""

    @property
    def sentence(self) -> str:
        return str(self)


class ConnectFailed(TunnelError):
    """TCP did not connect: refused, unreachable, or lost before the tunnel was established."""


class NotTaken(ConnectFailed):
    """The peer is closing the connection or at its limit, and ignored the tunnel. Another connection may accept it."""


class ConnectTimedOut(ConnectFailed):
    """TCP or TLS did not complete in time."""


class Unanswered(ConnectTimedOut):
    """The peer is alive but did not answer CONNECT in time, because its own destination does not respond."""


class HandshakeFailed(TunnelError):
    """TLS failed, or the peer's certificate has an unexpected identity."""


class TunnelRefused(TunnelError):
    """The far side answered CONNECT with a status other than 200."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class TunnelReset(TunnelError):
    """An open tunnel was reset with `code`, or its connection was lost."""

    is_undelivered = False

    def __init__(self, sentence: str, code: int | None = None) -> None:
        super().__init__(sentence)
        self.code = code
