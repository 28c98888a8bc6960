"""The contract of a part, checked: small real passes through a part that is not defined in this package.

construct.py builds a part and names it where that fails; findings.py says what a check found; passes.py has the checks
that every kind of part shares. The checks of a kind are in contract.py beside its protocol.py. They run where a model
is built (checkpoint/parts.py), and as ``btcchat check``.
"""
