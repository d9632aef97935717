"""The settings of both programs: one list of the sections that L4 declares, each in the module of its feature."""

from l4.config.settings import Section
from l4.discovery.mesh import Mesh
from l4.discovery.own_pod import OwnPod
from l4.hbone.settings import DrainSettings, HboneSettings
from l4.http2.flood_limits import FloodLimits
from l4.identity.signing_settings import SigningSettings
from l4.telemetry.expiry import MetricsSettings

SECTIONS: tuple[type[Section], ...] = (
    Mesh,
    OwnPod,
    SigningSettings,
    HboneSettings,
    FloodLimits,
    DrainSettings,
    MetricsSettings,
)
