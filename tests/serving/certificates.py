"""Certificates for the tests: authorities, and what they sign for 127.0.0.1 and its clients."""

import datetime as dt
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pem(key):
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


class Authority:
    """Signs certificates; writes its own and theirs to a folder."""

    def __init__(self, folder, name):
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = self._started(name, self._key, dt.datetime.now(dt.UTC)).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.cert = self._write(name, self._key, made)[0]

    def sign(self, name, *, client=True, age=dt.timedelta()):
        """A certificate that lasts a day from ``age`` ago; paths of it and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        made = (
            self._started(name, key, dt.datetime.now(dt.UTC) - age)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        return self._write(f"{self._name}-{name}", key, made)

    def _started(self, name, key, at):
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(at - DAY / 24)
            .not_valid_after(at + DAY)
        )

    def _write(self, name, key, made):
        cert, keyfile = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        keyfile.write_bytes(_pem(key))
        return cert, keyfile


def trusting(authority, identity=None):
    """A client's TLS that trusts an authority, and shows an identity if it has one."""
    context = ssl.create_default_context(cafile=authority.cert)
    if identity is not None:
        context.load_cert_chain(*identity)
    return context
