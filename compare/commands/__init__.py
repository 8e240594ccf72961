"""The command `diptych`: `cli.main` reads the arguments, one file each holds a subcommand.

To add one: a file with `add(subparsers)`, which declares it through `options.command`, and
`run(args) -> int`, which does it and returns the exit code; then its name in `options.COMMANDS`. It
raises `DiptychError` for a mistake of the user's. Imports that take time belong inside `run`.
"""
