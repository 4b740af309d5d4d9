"""Digests: the one text of plain data, and the hashes by which Records and devices are known."""

from __future__ import annotations

import json

try:  # what hashlib has, without OpenSSL, which takes milliseconds to load
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

from ..backend import Fingerprint

__all__ = ["blake2b", "canonical", "device_digest"]

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def canonical(value: object) -> str:
    """Return the one JSON text of plain data: sorted names, no spaces, ASCII, no NaN."""
    return _encode(value)


def device_digest(arch: str, fingerprint: Fingerprint) -> str:
    """Return the hash of a device and its environment, 32 hexadecimal digits."""
    content = [arch, dict(fingerprint.identity), dict(fingerprint.environment)]
    return blake2b(canonical(content).encode(), digest_size=16).hexdigest()
