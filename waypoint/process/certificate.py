"""The waypoint's own certificate, from where the command line says."""

from l4.config.settings import InvalidSetting, Settings
from l4.discovery.mesh import Mesh
from l4.discovery.own_pod import OwnPod
from l4.identity.files import FileStore
from l4.identity.options import CertificateFiles
from l4.identity.signing_settings import SigningSettings
from l4.identity.source import OwnCertificate
from policies.attributes import Identity
from waypoint.process.options import RunOptions


def own_certificate(options: RunOptions, settings: Settings) -> OwnCertificate:
    """Raises InvalidCertificate for bad files, and InvalidSetting if nothing says which certificate to ask for."""
    its = options.certificate
    if isinstance(its, CertificateFiles):
        files = FileStore(its.certificate, its.private_key, its.trust_bundle, options.revocations)
        files.load()
        return OwnCertificate(files, files.current.identity)
    from l4.identity.istio_ca import signed_by  # only now: gRPC takes time and memory to load

    identity = _identity(settings)
    signing, cluster_id = settings.of(SigningSettings), settings.of(Mesh).cluster_id
    return OwnCertificate(signed_by(its, cluster_id, options.revocations, signing), identity)


def _identity(settings: Settings) -> Identity:
    workload = settings.of(OwnPod)
    values = {"POD_NAMESPACE": workload.pod_namespace, "SERVICE_ACCOUNT": workload.service_account}
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise InvalidSetting(
            f"{' and '.join(missing)} must be set with --ca-address, whose authority signs for this process's service "
            "account; in a pod, take them from metadata.namespace and spec.serviceAccountName"
        )
    try:
        return Identity.parse(str(Identity(settings.of(Mesh).trust_domain, *values.values())))
    except ValueError as error:
        raise InvalidSetting(f"TRUST_DOMAIN, POD_NAMESPACE and SERVICE_ACCOUNT make no identity: {error}") from None
