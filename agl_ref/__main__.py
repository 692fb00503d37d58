"""`python -m agl_ref` is the command `agl-ref`."""

from .cli import main

raise SystemExit(main())
