"""The installed project: its rooms lie in this package's folder, and `tagalign.cli` starts their commands.

No room is imported from here: `labels`, `eval` and the others are names of a checkout, and would be in
the way of other packages' names beside them.
"""
