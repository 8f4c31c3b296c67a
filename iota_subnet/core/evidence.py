"""What adds up against a miner from epoch to epoch: a sequential test that may be read after every epoch.

Law: however long a run, and however often one looks, the chance that any honest miner is ever flagged is at most
`FALSE_ALARMS`, over all miners together.

Assumed of an honest miner: given all epochs before, its true effect is at most `MARGIN` nats, and `Effect.score` less
what that margin adds has a tail no heavier than a standard normal number's. Not assumed: that epochs are independent,
equally large, or normal to the last digit; that its neighbours are honest; that the number of miners is known.

How. Against "its effect is at most the margin" stands "it is the margin and `h` more, since epoch `k`". The likelihood
ratio of the two is a bet that an honest miner wins on average at no more than its stake. `HARMS` are the h, each with
an equal stake; a bet on epoch k has the stake 1 / (k (k + 1)), which adds up to 1, so that who turns harmful after a
hundred honest epochs is found too, and its honest past does not shield it. The whole is a supermartingale that begins
at 1: it reaches 1 / a with a chance of at most a (Ville's inequality). The chances a are shared out among miners
in the order in which they are first seen, and add up to `FALSE_ALARMS`: half to the first 64, a quarter to the
next 128, an eighth to the next 256, and so on.

Logarithms and exponentials are rounded: they differ between libraries in the last digit, and a replay must not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, fsum, log

from iota_subnet.core.clasp import TOLERANCE, Effect

#: The chance that any honest miner is ever flagged, per run.
FALSE_ALARMS = 0.01

#: Honest miners of one stage may differ so much, in nats per token.
MARGIN = 0.005

#: Harms beyond the margin that are bet on, in nats per token.
HARMS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)

#: No bet is worth more, as a logarithm; to have less than it may have is fair to the miner.
ENOUGH = 300.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """Against one miner. `number` counts miners in the order in which they were first seen, from 1.

    `bets` are the logarithms of what the bets on each of `HARMS` are worth; `peak` the largest logarithm that all of
    them together ever had. Who drops somebody's evidence and sees it again begins anew with a number of its own.
    """

    number: int
    epochs: int = 0
    bets: tuple[float, ...] = ()
    peak: float = 0.0


def update(evidence: Mapping[str, Evidence], effects: Mapping[str, Effect]) -> dict[str, Evidence]:
    """Evidence after another epoch, by hotkey. An epoch that says nothing of a miner leaves its evidence as it is."""
    result = dict(evidence)
    number = max((known.number for known in result.values()), default=0)
    for hotkey, effect in effects.items():
        if effect.witnesses < 2 or not effect.error > 0.0:
            continue
        known = result.get(hotkey)
        if known is None:
            number += 1
            known = Evidence(number)
        result[hotkey] = _after(known, effect)
    return result


def flagged(evidence: Mapping[str, Evidence]) -> list[str]:
    """Whoever was found harmful at any time, in the order in which they were first seen."""
    found = [(known.number, hotkey) for hotkey, known in evidence.items() if known.peak >= threshold(known.number)]
    return [hotkey for _, hotkey in sorted(found)]


def standing(evidence: Evidence) -> float:
    """Quality in (0, 1] by the evidence as it is now: 1 below the threshold, continuous above.

    Harm is the mean of what is bet on, each weighing what its bet is worth. It falls as the miner mends its ways.
    """
    if not evidence.bets:
        return 1.0
    excess = _together(evidence.bets) - threshold(evidence.number)
    if excess <= 0.0:
        return 1.0
    best = max(evidence.bets)
    worth = [exp(bet - best) for bet in evidence.bets]
    harm = MARGIN + fsum(h * value for h, value in zip(HARMS, worth, strict=True)) / fsum(worth)
    return round(exp(-harm * (1 - exp(-excess)) / TOLERANCE), 9)


def threshold(number: int) -> float:
    """The logarithm that evidence against the miner of this number must reach."""
    share, size, passed = FALSE_ALARMS / 2, 64, 64
    while number > passed:
        share, size = share / 2, size * 2
        passed += size
    return round(log(size / share), 9)


def _after(known: Evidence, effect: Effect) -> Evidence:
    epoch = known.epochs + 1
    stake = 1 / (epoch * (epoch + 1))
    excess = effect.score / effect.error - MARGIN / effect.error**2
    before = known.bets or (float("-inf"),) * len(HARMS)
    bets = []
    for harm, bet in zip(HARMS, before, strict=True):
        largest = max(bet, 0.0)
        worth = largest + log(exp(bet - largest) + stake * exp(-largest))
        bets.append(round(min(ENOUGH, worth + harm * excess - harm * harm / (2 * effect.error**2)), 9))
    return Evidence(known.number, epoch, tuple(bets), max(known.peak, _together(bets)))


def _together(bets: tuple[float, ...] | list[float]) -> float:
    """The logarithm of what all bets are worth on average."""
    best = max(bets)
    return round(best + log(fsum(exp(bet - best) for bet in bets) / len(bets)), 9)
