"""Scores by hotkey -> the uids and u16 weights that go on chain. Pure, standard library only.

Law: scores belong to hotkeys, uids only to one MetagraphView. A hotkey that lost its uid is dropped, and the newcomer
that took the uid starts from nothing, because its own hotkey has no score.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from template.chain import MetagraphView

U16_MAX = 65535


def to_chain_weights(
    scores: Mapping[str, float],
    view: MetagraphView,
    *,
    burn: float = 0.0,
    exclude: Collection[str] = (),
) -> tuple[list[int], list[int]]:
    """Return (uids ascending, weights), the largest weight being 65535; two empty lists when nobody earned anything.

    `burn` in [0, 1] is the share of the whole that goes to the subnet owner's uid, where the chain burns it; with
    burn = 1 everything does. It is ignored when the owner's hotkey holds no uid. A non-finite or negative score counts
    as zero; a positive one never rounds away to nothing.
    Raises ValueError when `burn` is outside [0, 1].
    """
    if not 0.0 <= burn <= 1.0:
        raise ValueError(f"burn must be in [0, 1], not {burn}")
    owner_uid = view.uid_of(view.owner_hotkey)
    by_uid: dict[int, float] = {}
    for hotkey, score in scores.items():
        uid = view.uid_of(hotkey)
        if uid is not None and hotkey not in exclude and math.isfinite(score) and score > 0.0:
            by_uid[uid] = score
    if by_uid:
        # Divide by the largest first: a sum of huge finite scores could overflow to infinity.
        largest = max(by_uid.values())
        by_uid = {uid: score / largest for uid, score in by_uid.items()}
        total = sum(by_uid.values())
        by_uid = {uid: score / total for uid, score in by_uid.items()}
    if owner_uid is not None and burn > 0.0:
        earned = by_uid if burn < 1.0 else {}
        by_uid = {uid: share * (1.0 - burn) for uid, share in earned.items()}
        # With nobody to pay, the burn is the whole vector; the chain normalises it anyway.
        by_uid[owner_uid] = by_uid.get(owner_uid, 0.0) + burn
    if not by_uid:
        return [], []
    largest = max(by_uid.values())
    uids = sorted(by_uid)
    return uids, [max(1, round(by_uid[uid] / largest * U16_MAX)) for uid in uids]
