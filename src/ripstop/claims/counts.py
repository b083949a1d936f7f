"""What is counted of claims for the paper's text, `claims.<name>`; controls apart."""

CLAIM_COUNTS = (
    *("total", "supported", "refuted", "inconclusive", "undecided", "not_measured"),
    *("registered", "exploratory", "controls", "controls_failed"),
)
