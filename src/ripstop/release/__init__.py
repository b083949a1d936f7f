"""A paper to give away: one archive that renders again without git, DVC or network, and what changed between two."""
