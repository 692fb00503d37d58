"""`python -m agl_ref` is the command `agl-ref`."""

from agl_ref.cli.main import main

raise SystemExit(main())
