r"""Does everything that is printed follow from what was measured? Recomputed from the records on, and compared.

Checked, as far as the files are there, each mismatch one sentence with file, key and both values:

* a run (`runs`): model.safetensors is the one that training.json describes, and that was trained with this configuration,
  code and data; the records of each part name the same, and the study, run, scale, seed and factors of its config.yaml;
* the settings that an arm chose (`runs`) are those of its best candidate;
* a study (`rendered`): its records, results/records/<scale>/<study>.jsonl.gz, join those parts, of the runs of the grid and no
  others; numbers, metrics, curves, tables and figures are those that the records give;
* the paper (`published`): numbers.tex, claims.tex, claims.json, appendix.tex, and what lies in paper/; the recorded
  verdicts, with numbers, digests of criteria and what git says of them (`ripstop.claims.registration`).
* the paper's text and README.md (`paper.typed`): no result in them is typed by hand.

Git keeps the records, so a fresh clone checks all but the runs. Where a study has none, its recorded verdicts are held against
the metrics in git, judged again, and printed again.

What this does not prove: that a value in a record was measured. Who edits a record of a part, and then all that follows from it
(or runs another training in its place), leaves a consistent tree; the digests say which code, configuration, data and model a
record names, and training again is the only proof that they give it. Nothing of training.json is checked that no record repeats
(losses, durations), nor metrics.jsonl, nor main.pdf beyond its digest in paper/contents.json. On a fresh clone the metrics of
numbers that no claim uses, and the text of tables, are held against nothing but digests that lie beside them: git is what says
who changed them, and when.
"""
