"""Plans as JSON, in and out (docs/simulate.md describes the format). What a file says wrong is named in one line."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from iota_subnet.core.state import Phase
from iota_subnet.sim.incidents import MEANING, SIZED, TIMED
from iota_subnet.sim.plans import Incident, Plan, Trait
from iota_subnet.spec import SpecError, SwarmSpec

FORMAT = 1

#: Fields of `Plan` that a file spells in its own way.
_OWN = ("traits", "incidents", "costs", "swarm")


class BadPlan(ValueError):
    """A plan that cannot be played; the message is one line and says where and what."""


def to_json(plan: Plan) -> str:
    """A plan as JSON, without what is as in the defaults; one line per incident, for people."""
    defaults = Plan(plan.seed)
    raw: dict[str, Any] = {"format": FORMAT}
    for field in dataclasses.fields(Plan):
        value = getattr(plan, field.name)
        if field.name not in _OWN and (field.name == "seed" or value != getattr(defaults, field.name)):
            raw[field.name] = value
    if plan.costs != defaults.costs:
        raw["costs"] = list(plan.costs)
    if plan.swarm:
        raw["swarm"] = plan.swarm
    head = json.dumps(raw)[:-1]
    traits = [
        f'    "{number}": {json.dumps(_changed(trait, Trait()))}' for number, trait in sorted(plan.traits.items())
    ]
    faults = [f"    {json.dumps(_changed(i, Incident(-1.0, '')))}" for i in plan.incidents]
    head += ',\n  "traits": {\n' + ",\n".join(traits) + "\n  }" if traits else ""
    head += ',\n  "incidents": [\n' + ",\n".join(faults) + "\n  ]" if faults else ""
    return head + "}\n"


def _changed(value: Any, default: Any) -> dict[str, Any]:
    """What differs from the default; `at`, `what` and the miner's number are always told."""
    names = value._fields if isinstance(value, Incident) else [f.name for f in dataclasses.fields(value)]
    pairs = {name: getattr(value, name) for name in names}
    return {name: item for name, item in pairs.items() if item != getattr(default, name)}


def from_json(text: str) -> Plan:
    """Read a plan.

    Raises:
        BadPlan: not JSON, an unknown field or incident, or a value that cannot be.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise BadPlan(f"the plan is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise BadPlan("the plan is not a JSON object")
    if raw.pop("format", FORMAT) != FORMAT:
        raise BadPlan(f"this software reads plans of format {FORMAT}")
    raw = {"seed": 0} | raw
    values = _checked("plan", raw, Plan(0), skip=_OWN)
    values["traits"] = {
        _number(number): Trait(**_checked(f"traits.{number}", trait, Trait()))
        for number, trait in _expect("traits", raw.get("traits", {}), dict).items()
    }
    listed = _expect("incidents", raw.get("incidents", []), list)
    values["incidents"] = tuple(_incident(index, item) for index, item in enumerate(listed))
    if "costs" in raw:
        values["costs"] = _costs(raw["costs"])
    values["swarm"] = _checked("swarm", raw.get("swarm", {}), SwarmSpec())
    return _sound(Plan(**values))


def _expect(where: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise BadPlan(f"{where} must be {'an object' if kind is dict else 'a list'}, not {json.dumps(value)[:40]}")
    return value


def _number(text: str) -> int:
    if not text.isdigit():
        raise BadPlan(f'traits are keyed by a miner\'s number in quotes, as in "3"; {json.dumps(text)} is none')
    return int(text)


def _checked(where: str, raw: Any, like: Any, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a flat record, each of its default's type."""
    names = like._fields if isinstance(like, Incident) else [f.name for f in dataclasses.fields(like)]
    values: dict[str, Any] = {}
    for name, value in _expect(where, raw, dict).items():
        if name not in names:
            raise BadPlan(f"{where} has no field {name!r}; it has: {', '.join(names)}")
        if name in skip:
            continue
        default = getattr(like, name)
        if type(default) is float and type(value) is int:
            value = float(value)
        if isinstance(default, tuple) and isinstance(value, list) and all(type(n) is int for n in value):
            value = tuple(value)
        if type(value) is not type(default):
            raise BadPlan(f"{where}.{name} must be {type(default).__name__}, not {json.dumps(value)[:40]}")
        if isinstance(value, (int, float)) and name != "amount" and not 0 <= value < 1e12:
            raise BadPlan(f"{where}.{name} is {value}; it must not be negative or huge")
        values[name] = value
    return values


def _incident(index: int, raw: Any) -> Incident:
    where = f"incidents[{index}]"
    values = _checked(where, raw, Incident(0.0, ""))
    if "at" not in values or "what" not in values:
        raise BadPlan(f"{where} needs `at` (seconds) and `what`")
    incident = Incident(**values)
    if incident.what not in MEANING:
        raise BadPlan(f"{where}.what is {incident.what!r}; it may be: {', '.join(MEANING)}")
    if incident.phase not in ("", *(phase.value for phase in Phase)):
        raise BadPlan(f"{where}.phase is {incident.phase!r}; it may be: {', '.join(phase.value for phase in Phase)}")
    if incident.what in TIMED and incident.seconds <= 0:
        raise BadPlan(f"{where}: {incident.what} needs `seconds` > 0")
    if incident.what in SIZED and not incident.amount:
        raise BadPlan(f"{where}: {incident.what} needs an `amount`")
    if incident.amount < 0 and incident.what != "skew":
        raise BadPlan(f"{where}.amount is {incident.amount}; only a clock can jump back")
    return incident


def _costs(raw: Any) -> tuple[float, float, float]:
    listed = _expect("costs", raw, list)
    if len(listed) != 3 or not all(isinstance(cost, (int, float)) and cost > 0 for cost in listed):
        raise BadPlan("costs must be three numbers > 0: forward, loss, backward")
    return float(listed[0]), float(listed[1]), float(listed[2])


def _sound(plan: Plan) -> Plan:
    """What the types do not say."""
    for name in ("loss", "twice", "blob_loss", "token_loss", "auditor_loss"):
        if getattr(plan, name) >= 1:
            raise BadPlan(f"plan.{name} is a chance per message and must stay below 1")
    if not 1 <= plan.miners <= 4096 or plan.epochs < 1:
        raise BadPlan("a plan needs 1 to 4096 miners and at least one epoch")
    if plan.miners < plan.stages:
        raise BadPlan(f"{plan.stages} stages need at least {plan.stages} miners, one each")
    try:
        plan.spec()
    except SpecError as error:
        raise BadPlan(str(error)) from None
    return plan
