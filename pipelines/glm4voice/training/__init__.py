"""Training of small chains: a command per stage, from a corpus to files in the released formats.

A stage reads what earlier stages left in the work folder and writes only there. Whatever runs a
call stands outside this room and does not know it.
"""
