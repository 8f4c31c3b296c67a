"""ML-KEM-768 (FIPS 203): key generation from a seed and decapsulation. For staging: not constant in time.

Decapsulation leaves out the re-encryption check: a ciphertext altered by less than its noise still opens, which a real
node refuses. What it protects against, attacks on a secret key, does not exist here.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

Poly: TypeAlias = list[int]

_Q, _N, _K = 3329, 256, 3
_U_BITS, _V_BITS = 10, 4
CIPHERTEXT_BYTES = 32 * (_U_BITS * _K + _V_BITS)


def _reversed_bits(value: int) -> int:
    return int(f"{value:07b}"[::-1], 2)


_ZETAS = [pow(17, _reversed_bits(i), _Q) for i in range(128)]
_GAMMAS = [pow(17, 2 * _reversed_bits(i) + 1, _Q) for i in range(128)]


def _ntt(poly: Poly) -> Poly:
    f, i, length = list(poly), 1, 128
    while length >= 2:
        for start in range(0, _N, 2 * length):
            zeta, i = _ZETAS[i], i + 1
            for j in range(start, start + length):
                t = zeta * f[j + length] % _Q
                f[j + length] = (f[j] - t) % _Q
                f[j] = (f[j] + t) % _Q
        length //= 2
    return f


def _inverse_ntt(poly: Poly) -> Poly:
    f, i, length = list(poly), 127, 2
    while length <= 128:
        for start in range(0, _N, 2 * length):
            zeta, i = _ZETAS[i], i - 1
            for j in range(start, start + length):
                t = f[j]
                f[j] = (t + f[j + length]) % _Q
                f[j + length] = zeta * (f[j + length] - t) % _Q
        length *= 2
    return [value * 3303 % _Q for value in f]


def _product(f: Poly, g: Poly) -> Poly:
    h = [0] * _N
    for i in range(128):
        a, b, c, d = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
        h[2 * i] = (a * c + b * d * _GAMMAS[i]) % _Q
        h[2 * i + 1] = (a * d + b * c) % _Q
    return h


def _inner(left: list[Poly], right: list[Poly]) -> Poly:
    total = [0] * _N
    for f, g in zip(left, right, strict=True):
        total = [(a + b) % _Q for a, b in zip(total, _product(f, g), strict=True)]
    return total


def _uniform(seed: bytes) -> Poly:
    """SampleNTT: rejection from SHAKE128."""
    data = hashlib.shake_128(seed).digest(3 * 672)  # far more than ever needed
    found: Poly = []
    for i in range(0, len(data), 3):
        low = data[i] + 256 * (data[i + 1] % 16)
        high = data[i + 1] // 16 + 16 * data[i + 2]
        found.extend(value for value in (low, high) if value < _Q)
        if len(found) >= _N:
            break
    return found[:_N]


def _small(seed: bytes, number: int) -> Poly:
    """Centred binomial distribution with eta = 2."""
    bits = int.from_bytes(hashlib.shake_256(seed + bytes((number,))).digest(128), "little")
    poly = []
    for i in range(_N):
        four = bits >> 4 * i & 15
        poly.append(((four & 1) + (four >> 1 & 1) - (four >> 2 & 1) - (four >> 3 & 1)) % _Q)
    return poly


def _pack(poly: Poly, width: int) -> bytes:
    return sum(value << width * i for i, value in enumerate(poly)).to_bytes(32 * width, "little")


def _unpack(data: bytes, width: int) -> Poly:
    bits, mask = int.from_bytes(data, "little"), (1 << width) - 1
    return [bits >> width * i & mask for i in range(_N)]


def _decompressed(data: bytes, width: int) -> Poly:
    return [(value * _Q + (1 << width - 1)) >> width for value in _unpack(data, width)]


class MlKem768:
    """A key pair made from ``seed``; ``public`` is the encapsulation key of 1184 bytes."""

    def __init__(self, seed: bytes) -> None:
        digest = hashlib.sha3_512(hashlib.sha3_256(seed).digest() + bytes((_K,))).digest()
        rho, sigma = digest[:32], digest[32:]
        self._secret = [_ntt(_small(sigma, i)) for i in range(_K)]
        errors = [_ntt(_small(sigma, _K + i)) for i in range(_K)]
        packed = b""
        for i in range(_K):
            row = [_uniform(rho + bytes((j, i))) for j in range(_K)]
            public = zip(_inner(row, self._secret), errors[i], strict=True)
            packed += _pack([(a + b) % _Q for a, b in public], 12)
        self.public = packed + rho

    def shared_secret(self, ciphertext: bytes) -> bytes:
        """The 32 bytes that the maker of ``ciphertext`` (1088 bytes) shares with this key."""
        width = 32 * _U_BITS
        u = [_decompressed(ciphertext[width * i : width * (i + 1)], _U_BITS) for i in range(_K)]
        v = _decompressed(ciphertext[width * _K :], _V_BITS)
        noise = _inverse_ntt(_inner(self._secret, [_ntt(poly) for poly in u]))
        message = [((a - b) % _Q * 2 + _Q // 2) // _Q % 2 for a, b in zip(v, noise, strict=True)]
        return hashlib.sha3_512(_pack(message, 1) + hashlib.sha3_256(self.public).digest()).digest()[:32]
