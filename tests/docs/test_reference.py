"""The committed reference is what the code says, and everything public says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import docstrings, reference


def test_the_committed_pages_are_those_that_the_code_makes() -> None:
    assert reference.out_of_date() == [], "run `make docs` and commit docs/reference"


def test_a_page_that_was_edited_or_is_nobodys_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, text in reference.pages().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "core.md").write_text("edited", encoding="utf-8")
    (tmp_path / "old.md").write_text("of an older release", encoding="utf-8")
    monkeypatch.setattr(reference, "PAGES", tmp_path)
    assert reference.out_of_date() == ["core.md", "old.md"]


def test_everything_public_has_a_docstring_in_the_agreed_form() -> None:
    assert docstrings.warnings() == []


def test_what_has_no_docstring_or_no_sentence_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "neurons").mkdir()
    code = '''"""A module."""
class Base:
    """A base."""
    def told(self): "Says so."
    def untold(self): pass
    def _private(self): pass
class Child(Base):
    """A child"""
    def told(self): pass
    def untold(self): pass
def outer():
    """With a function inside."""
    def inner(): pass
'''
    (tmp_path / "neurons/one.py").write_text(code, encoding="utf-8")
    monkeypatch.setattr(docstrings, "ROOT", tmp_path)
    told = [line.partition(": ")[2] for line in docstrings.warnings()]
    assert [line.split()[0].rstrip(":") for line in told] == ["Base.untold", "Child", "Child.untold"]


def test_every_event_and_action_of_the_core_has_its_place() -> None:
    from iota_subnet.core import actions, events

    page = reference.pages()["core.md"]
    names = [*events.ALL, *(cls.__name__ for cls in actions.Action.__subclasses__())]
    assert [name for name in names if f"### {name}\n" not in page] == []


def test_metrics_are_those_that_a_validator_shows() -> None:
    """The page is read from the source; what a state really gives must be on it, name by name."""
    from iota_subnet.core.state import RunState
    from iota_subnet.metrics.run import run_metrics
    from iota_subnet.spec import RunSpec

    page = reference.pages()["metrics.md"]
    for family in run_metrics(RunState(RunSpec()), None, 0.0):
        end = {"counter": "_total", "info": "_info"}.get(family.type, "")
        assert f"`{family.name}{end}` | {family.type} |" in page
