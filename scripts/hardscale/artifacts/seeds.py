"""Seeds derived from what a random choice is for, so that no two roles ever share a stream."""

import hashlib


def derive_seed(study_seed: int, *roles: str | int) -> int:
    """A 63-bit seed for one role in one cell.

    The same ``(study_seed, *roles)`` gives the same seed on every machine; any change of any part gives an
    unrelated one. ``roles`` is read as a path, e.g. ``derive_seed(0, "password_match/nano/30k/s1", "data")``.
    """
    text = "\x1f".join([str(study_seed), *(str(role) for role in roles)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
