"""Limits on how often a peer may do what is harmful in large numbers. `l4.http2.flood` enforces them."""

from dataclasses import dataclass

from l4.config.settings import Section, setting


@dataclass(frozen=True, slots=True)
class FloodLimits(Section):
    title = "Limits of HTTP/2"

    http2_premature_resets: int = 200
    """Burst of streams that a client may reset while they are young and unanswered: rapid reset, CVE-2023-44487. Envoy
    ends a connection after 250."""
    http2_premature_resets_per_second: int = 33
    """Refill rate of `http2_premature_resets`, per second; nghttp2's value."""
    http2_premature_seconds: float = 1.0
    """Age up to which a stream is young."""
    http2_own_resets: int = 100
    """Burst of a client's mistakes that we answer by resetting a stream: MadeYouReset, CVE-2025-8671."""
    http2_own_resets_per_second: int = 10
    """Refill rate of `http2_own_resets`, per second."""
    http2_head_frames: int = setting(64, least=1, most=64)
    """HEADERS and CONTINUATION frames of one head (CVE-2024-27316). No more, because the library takes no more."""
    http2_queued_control_frames: int = 1000
    """Answers to PING, SETTINGS and mistakes that wait for a peer that doesn't read; Envoy's value."""
    http2_pings: int = 1000
    """PING frames in ten seconds."""
    http2_settings_frames: int = 100
    """SETTINGS frames in ten seconds."""
    http2_empty_frames: int = 1000
    """DATA and HEADERS frames in a minute that carry nothing, not even the end of their stream (CVE-2019-9518)."""
    http2_consecutive_empty_frames: int = 16
    """Such frames in a row."""
    http2_tiny_data_bytes: int = 64
    """Average size below which a client's DATA frames are tiny (CVE-2019-9511)."""
    http2_tiny_data_frames: int = 10_000
    """Burst of tiny DATA frames of a client. Those of a server answer us, and our windows bound them."""
    http2_tiny_data_frames_per_second: int = 5000
    """Refill rate of `http2_tiny_data_frames`, per second. Up to this pace a client is chatty, above it it floods."""
    http2_priority_frames: int = 100
    """PRIORITY frames for each stream that was opened, and as many without one; Envoy's value. We ignore
    priorities."""
    http2_window_updates: int = 10
    """WINDOW_UPDATE frames for each DATA frame that we sent, and five without one; Envoy's value."""
