"""How a tunnel can fail. All of the first four are certain: not a byte of the application was delivered."""


class TunnelError(Exception):
    """Some part of a tunnel did not work; `sentence` speaks to an operator."""

    is_undelivered = True
    """True when the far side provably did not get any byte through this tunnel, so that trying again is safe."""

    @property
    def sentence(self) -> str:
        return str(self)


class ConnectFailed(TunnelError):
    """TCP did not connect: refused, unreachable, or the connection was lost before the tunnel stood."""


class NotTaken(ConnectFailed):
    """The peer is about to go away, or full, and has not looked at the tunnel: another connection may take it."""


class ConnectTimedOut(ConnectFailed):
    """TCP or TLS did not finish in time."""


class Unanswered(ConnectTimedOut):
    """The peer is alive and has not answered CONNECT in time: who is silent is whoever it connects to."""


class HandshakeFailed(TunnelError):
    """TLS failed, or the peer's certificate names another workload than the expected one."""


class TunnelRefused(TunnelError):
    """The far side answered CONNECT with another status than 200."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class TunnelReset(TunnelError):
    """An open tunnel was cut: RST_STREAM with `code`, or its connection was lost."""

    is_undelivered = False

    def __init__(self, sentence: str, code: int | None = None) -> None:
        super().__init__(sentence)
        self.code = code
