"""The fleet's own certificate authority, and what it signs: the broker's certificate.

Both are valid at any time that a clock can show. A Raspberry Pi has no clock that runs without power, and one that is
years off must not keep it from the broker, which is trusted with delivery alone; what a device runs is signed metadata,
and that does expire. RFC 5280, 4.1.2.5, has the date that means "never".
"""

import contextlib
import datetime as dt
import ipaddress
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgeferry.fleet.errors import ConfigurationError

__all__ = ["Authority", "KeyPair", "names_of"]

_BEGIN = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NEVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate_pem: bytes
    key_pem: bytes


class Authority:
    """Signs certificates of a fleet; its key never leaves the workstation."""

    def __init__(self, pair: KeyPair) -> None:
        """Take an authority that was made before.

        Raises:
            ConfigurationError: Certificate or key cannot be read, or do not belong together.
        """
        try:
            self._certificate = x509.load_pem_x509_certificate(pair.certificate_pem)
            key = serialization.load_pem_private_key(pair.key_pem, password=None)
        except (ValueError, TypeError) as err:
            raise ConfigurationError(f"the authority of the broker's certificate cannot be read: {err}") from err
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self._certificate.public_key():
            raise ConfigurationError("secrets/ca.pem and secrets/authority.key do not belong together")
        self._key = key
        self.pair = pair

    @classmethod
    def create(cls, name: str) -> "Authority":
        """Return a new authority with the name ``name``."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = (
            _builder(subject, subject, key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
        )
        return cls(_pair(builder.sign(key, hashes.SHA256()), key))

    def server(self, hosts: tuple[str, ...]) -> KeyPair:
        """Return a new certificate for a server that is reached by ``hosts``, names or addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_name(hosts[0][:64]), self._certificate.subject, key)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            # Python 3.13 refuses a certificate without it (VERIFY_X509_STRICT, RFC 5280, 4.2.1.1).
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return _pair(builder.sign(self._key, hashes.SHA256()), key)

    def has_signed(self, certificate_pem: bytes) -> bool:
        """Return whether a certificate is one of this authority's."""
        try:
            x509.load_pem_x509_certificate(certificate_pem).verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def names_of(certificate_pem: bytes) -> tuple[str, ...]:
    """Return the names and addresses that a certificate is for; none when it is no certificate."""
    with contextlib.suppress(ValueError, x509.ExtensionNotFound):
        found = x509.load_pem_x509_certificate(certificate_pem)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(str(name.value) for name in names)
    return ()


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_NEVER)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> KeyPair:
    encryption = serialization.NoEncryption()
    return KeyPair(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption),
    )
