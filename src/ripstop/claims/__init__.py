"""Claims that execute: a criterion written down before the run, a verdict derived from numbers, and what git proves of both.

`registry` reads paper/claims.yaml, `verdicts` judges, `registration` asks git whether the criterion came first, `recorded`
keeps what was found, `printing` puts it into the paper. Nothing here imports torch.
"""
