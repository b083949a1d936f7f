"""Whether this machine is set up: each check says what it found, and the command that mends what is missing.

A module here imports nothing that may be broken before the check that tells of it.
"""
