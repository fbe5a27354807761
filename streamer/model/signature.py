"""Signatures of models: whoever has the key made the model. What hashes cannot tell.

HMAC-SHA256 (RFC 2104) over the manifest as it stands on disk; the manifest holds the hashes of all other files.
"""

import hashlib
import hmac

from streamer.errors import ArtifactError

SIGNATURE = "manifest.sig"
MAX_SIGNATURE_BYTES = 1024


def sign(manifest: bytes, key: bytes) -> bytes:
    """Contents of the file `SIGNATURE` for these bytes of a manifest: hexadecimal, and a newline."""
    return hmac.new(key, manifest, hashlib.sha256).hexdigest().encode() + b"\n"


def verify(manifest: bytes, signature: bytes | None, key: bytes) -> None:
    """Return if the signature is that of the manifest; ArtifactError else, before anything is parsed."""
    if signature is None:
        raise ArtifactError(f"{SIGNATURE} is missing, and models.hmac_key is set: refused unread, train the model anew")
    if not hmac.compare_digest(signature, sign(manifest, key)):
        raise ArtifactError(
            f"{SIGNATURE} is not the manifest's under models.hmac_key: the model is foreign or was changed, "
            "refused unread, train it anew"
        )
