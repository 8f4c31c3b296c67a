"""Command line: ``python -m template.localnet``."""

from template.localnet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
