"""What the checks of a part found, and how it is reported."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from btcchat.contract.isolation import isolated
from btcchat.errors import BTCChatError

logger = logging.getLogger(__name__)

PASS, WARN, FAIL = "pass", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """What one check found."""

    check: str
    result: str  # PASS, WARN or FAIL
    found: str


class Violation(Exception):
    """A check failed."""

    def __init__(self, got: str, expected: str) -> None:
        super().__init__(f"{got}; expected {expected}")


class Doubt(Exception):
    """A check found something that may be intended, but is more often a mistake."""


@dataclass(frozen=True)
class Check:
    """``run`` returns what it found, or raises Violation or Doubt. The checks after a ``needed`` one depend on it."""

    name: str
    run: Callable[[], str]
    needed: bool = False


def run_checks(checks: Sequence[Check], device: str = "cpu") -> list[Finding]:
    """What the checks found, in order, up to a needed check that failed. They have no side effects: see `isolated`."""
    findings = []
    with isolated(device):
        for check in checks:
            try:
                findings.append(Finding(check.name, PASS, check.run()))
            except Doubt as doubt:
                findings.append(Finding(check.name, WARN, str(doubt)))
            except Violation as violation:
                findings.append(Finding(check.name, FAIL, str(violation)))
                if check.needed:
                    break
    return findings


def failed(findings: Sequence[Finding]) -> bool:
    return any(finding.result == FAIL for finding in findings)


def enforce(label: str, findings: Sequence[Finding]) -> None:
    """Raise BTCChatError for the first failed check of the part ``label``, or log each warning."""
    for finding in findings:
        if finding.result == FAIL:
            raise BTCChatError(f"{label} breaks its contract ({finding.check}): {finding.found}")
    for finding in findings:
        if finding.result == WARN:
            logger.warning("%s (%s): %s", label, finding.check, finding.found)
