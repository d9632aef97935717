"""The original destination of a connection that the kernel redirected."""

import ipaddress
import socket
import struct

_SO_ORIGINAL_DST = 80
_IP6T_SO_ORIGINAL_DST = 80
_SIZE_V4, _SIZE_V6 = 16, 28


def original_destination(sock: socket.socket) -> tuple[str, int]:
    """Return where the client connected to. If nothing redirected the connection, its local address."""
    try:
        if sock.family == socket.AF_INET6:
            found = sock.getsockopt(socket.IPPROTO_IPV6, _IP6T_SO_ORIGINAL_DST, _SIZE_V6)
            port, address = struct.unpack("!2xH4x16s4x", found)
        else:
            found = sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, _SIZE_V4)
            port, address = struct.unpack("!2xH4s8x", found)
    except OSError:
        ip, port = sock.getsockname()[:2]
        return ip, port
    return str(ipaddress.ip_address(address)), port
