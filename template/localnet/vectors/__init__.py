"""Golden vectors: numbers measured on a real runtime, compared with what this chain computes.

A file is one JSON object. Its keys say what it holds: scenarios with epochs (Yuma), with blocks (emission), or burn
sequences and replacements (registration). Integers must be equal, unless a check states a tolerance.
"""

from __future__ import annotations

import json
from pathlib import Path

from template.localnet.vectors.emission import check_emission
from template.localnet.vectors.registration import check_registration
from template.localnet.vectors.report import Report
from template.localnet.vectors.yuma import check_yuma

__all__ = ["Report", "check_emission", "check_file", "check_registration", "check_yuma", "main"]


def check_file(path: Path) -> Report:
    """Run every vector of a file. Raises ValueError with one line when it is no vector file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON: {error}") from error
    report = Report()
    try:
        if "burn_sequences" in content or "replacement" in content:
            check_registration(content, report)
        elif content["scenarios"] and "blocks" in content["scenarios"][0]:
            check_emission(content, report)
        else:
            check_yuma(content, report)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: is not in the format of the vectors: {type(error).__name__} {error} after "
            f"{report.compared} values"
        ) from error
    return report


def main(paths: list[str]) -> int:
    """Check files and print every mismatch. Exit code 0 all equal, 1 a mismatch, 2 a file that is no vector file."""
    failed = 0
    for name in paths:
        try:
            report = check_file(Path(name))
        except ValueError as error:
            print(f"check-vectors: {error}")
            failed = 2
            continue
        for line in report.mismatches:
            print(f"{name}: {line}")
        for line in report.left_out:
            print(f"{name}: left out: {line}")
        print(f"{name}: {report.compared} values compared, {len(report.mismatches)} differ")
        if report.mismatches:
            failed = failed or 1
    return failed
