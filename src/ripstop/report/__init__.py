"""The report: one page of HTML with all that a scale has, and what each number rests on."""
