"""Check a part from outside this package against its contract, by small real passes through it.

construct.py builds a part, and names it if that fails; findings.py has the results of checks; passes.py has the checks
that all kinds of parts share. The checks of one kind are in contract.py next to its protocol.py. They run when a model
is built (checkpoint/parts.py), and as ``btcchat check``.
"""
